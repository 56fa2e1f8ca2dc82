"""The processes: a scheduler that ticks, one leader, a supervisor, the workers wanted; version and configuration."""

from __future__ import annotations

import os
import socket
from collections import Counter
from typing import TYPE_CHECKING

from rlm import __version__
from rlm.admin.doctor.findings import fault, good, warning
from rlm.admin.report import revision_in_force
from rlm.core.clock import system_clock
from rlm.core.text import named, span
from rlm.ledger.processes import Role, WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding
    from rlm.ledger.leases import Tenure
    from rlm.ledger.processes import Process


#: A scheduler that has missed this many ticks is stuck.
MISSED_TICKS = 2
#: How long a worker may take until it is ready, on a host that starts many at once, seconds.
COMING_UP_SECONDS = 10.0
#: Processes named in a finding; the others are counted.
MOST_NAMED = 5

#: A live scheduler takes a free lease within this, seconds; it looks four times a second.
TAKEOVER_SECONDS = 2.0
#: A live scheduler renews its lease within this, seconds; it does so twice a second.
PROLONG_SECONDS = 1.0
_RESTART = "look whether it lives (ps, its log) and restart it; a second scheduler takes over by itself within 5 s"


def check_scheduler(store: Store) -> Iterator[Finding]:
    """Check that a scheduler runs with this configuration and ticks."""
    schedulers, holder = store.processes.alive(Role.SCHEDULER), store.leases.holder()
    if not schedulers and holder is None:
        lacking = _none(store, Role.SCHEDULER, "no run starts by itself")
        if (run := store.runs.current()) is not None:
            message = f"{lacking.message}; run {run.id} is open, and nobody conducts it"
            lacking = fault(lacking.name, message, lacking.remedy)
        yield lacking
        return
    if not schedulers:
        yield good("scheduler", f"none is running, {holder} conducts a run by hand")
        return
    if stale := _of_another_configuration(store, schedulers):
        yield warning("scheduler", f"{stale} runs another configuration", "restart it")
        return
    last, every = store.schedule.last_tick(), store.settings.run.every_seconds
    since = max(last or 0.0, min(one.started_at for one in schedulers))
    late = system_clock.now() - since - MISSED_TICKS * every
    if late > 0 and store.runs.current() is None:
        message = f"it has not ticked for {span(late + MISSED_TICKS * every)}, where a tick is due every {every:g} s"
        yield warning("scheduler", message, "read its log, and restart it")
        return
    standby = ", the others stand by" if holder and len(schedulers) > 1 else ""
    yield good("scheduler", f"{len(schedulers)} running, {holder or 'none yet'} leads{standby}")


def check_supervisor(store: Store) -> Iterator[Finding]:
    """Check that a supervisor runs with this configuration, and one per host."""
    supervisors = store.processes.alive(Role.SUPERVISOR)
    if not supervisors:
        lacking = _none(store, Role.SUPERVISOR, "no worker is started")
        lacks_now = store.runs.current() is not None and store.processes.wanted() > len(
            store.processes.alive(Role.WORKER)
        )
        yield fault(lacking.name, lacking.message, lacking.remedy) if lacks_now else lacking
    elif stale := _of_another_configuration(store, supervisors):
        yield warning("supervisor", f"{stale} runs another configuration", "restart it")
    else:
        hosts = Counter(one.host for one in supervisors)
        twice = [f"{number} on {host}" for host, number in sorted(hosts.items()) if number > 1]
        more = f" ({named(twice, MOST_NAMED)}, where one is enough)" if twice else ""
        yield good("supervisor", f"{len(supervisors)} running, on {', '.join(sorted(hosts))}{more}")


def _none(store: Store, role: Role, so: str) -> Finding:
    """Return the finding that no process of a role runs, with those that hang or died without signing off."""
    remedy = f"`rlm up` or `rlm {role}` starts one"
    if not (missing := store.processes.missing(role)):
        return warning(role, f"none is running, so {so}", remedy)
    gone = named(missing, MOST_NAMED)
    message = f"none is heard of, so {so}; {gone} did not sign off: it hangs, died, or Redis is far from it"
    return warning(role, message, f"see on its host whether it still runs (host:pid), end it if so; {remedy}")


def _of_another_configuration(store: Store, processes: Sequence[Process]) -> str:
    return next((one.id for one in processes if one.revision != store.settings.revision), "")


def check_workers(store: Store) -> Iterator[Finding]:
    """Check that the workers wanted are ready, and that none has another configuration than its run."""
    workers, wanted = store.processes.alive(Role.WORKER), store.processes.wanted()
    ready = sum(one.state == WorkerState.READY for one in workers)
    coming = sum(_is_coming_up(one) for one in workers)
    message = f"{ready} ready of {wanted} wanted" + (f", {coming} coming up" if coming else "")
    revision = revision_in_force(store)
    if other := [one.id for one in workers if one.revision != revision]:
        yield (warning if ready - len(other) >= wanted else fault)(
            "workers",
            f"{message}; of another configuration: {named(other, MOST_NAMED)}",
            "they claim nothing: restart each process of another configuration, schedulers and supervisors alike; a "
            "worker has that of its supervisor",
        )
    elif not workers and store.runs.current() is None and not store.processes.alive(Role.SUPERVISOR):
        yield good("workers", "none; they start when a run needs them")  # the supervisor has its own finding
    elif ready + coming >= wanted:
        yield good("workers", message)
    elif shortage := _shortage(store):
        yield fault(
            "workers", shortage, "start a supervisor (`rlm up` or `rlm supervisor`); where one runs, read its log"
        )
    else:
        yield warning("workers", message, "start a supervisor; where one runs, its log says why, or wait a moment")


def _shortage(store: Store) -> str:
    """Return what the open run lacks according to its conductor; empty if nothing, or if no run is open."""
    run = store.runs.current()
    return str((run.forecast or {}).get("shortage", "")) if run else ""


def _is_coming_up(worker: Process) -> bool:
    young = system_clock.now() - worker.started_at <= COMING_UP_SECONDS
    return worker.state == WorkerState.STARTING and young


def check_versions(store: Store) -> Iterator[Finding]:
    """Check that all processes have the version of this command."""
    others: dict[str, list[str]] = {}
    for role in Role:
        for one in store.processes.alive(role):
            if one.version != __version__:
                others.setdefault(one.version or "of an older version", []).append(f"{role} {one.id}")
    if not others:
        yield good("versions", f"every process is rlm {__version__}, as this command is")
        return
    told = "; ".join(f"rlm {version}: {named(names, MOST_NAMED)}" for version, names in others.items())
    remedy = "restart them one by one, which loses nothing, or use their `rlm` here; mix versions no longer than needed"
    yield warning("versions", f"this command is rlm {__version__}, others are {told}", remedy)


def check_leader(store: Store) -> Iterator[Finding]:
    """Compare the lease with the register: who leads, who stands by, or why nobody does."""
    schedulers, tenure = store.processes.alive(Role.SCHEDULER), store.leases.tenure()
    if tenure is not None and tenure.left_seconds > 0:
        yield _leading(store, tenure, schedulers)
    elif not schedulers:
        yield good("leader", "nobody leads, as no scheduler runs")
    else:
        yield _vacant(tenure, schedulers)


def _leading(store: Store, tenure: Tenure, schedulers: list[Process]) -> Finding:
    others = [one.id for one in schedulers if one.id != tenure.owner]
    if has_died(tenure.owner) and not _is_prolonged(store, tenure):
        message = f"{tenure.owner} holds the lease for another {span(tenure.left_seconds)}, and is dead"
        if others:
            return warning("leader", message, f"nothing: {others[0]} takes it then")
        return warning("leader", message, "`rlm up` or `rlm scheduler` starts another")
    if not others:
        return good("leader", f"{tenure.owner} leads; nobody would take over if it died")
    return good("leader", f"{tenure.owner} leads, {len(others)} would take over if it died")


def _is_prolonged(store: Store, tenure: Tenure) -> bool:
    """Return whether the lease is being renewed: its holder may run where its pid cannot be seen, in a container."""
    system_clock.sleep(PROLONG_SECONDS)
    later = store.leases.tenure()
    return later is not None and later.left_seconds > tenure.left_seconds - PROLONG_SECONDS / 2


def _vacant(tenure: Tenure | None, schedulers: list[Process]) -> Finding:
    names = ", ".join(one.id for one in schedulers)
    if tenure is None:
        if system_clock.now() - max(one.started_at for one in schedulers) <= TAKEOVER_SECONDS:
            return good("leader", f"nobody leads yet, {names} has just come up")
        return warning("leader", f"nobody leads, though {names} is in the register", _RESTART)
    vacant = -tenure.left_seconds
    if vacant <= TAKEOVER_SECONDS and any(one.id != tenure.owner for one in schedulers):
        return good("leader", f"the lease of {tenure.owner} ran out {span(vacant)} ago, another is about to take it")
    state = "is dead" if has_died(tenure.owner) else "does not answer"
    others = ", ".join(one.id for one in schedulers if one.id != tenure.owner)
    message = f"nobody leads: {tenure.owner} {state}, and its lease ran out {span(vacant)} ago"
    message += f"; nor does {others} take it" if others else ""
    return warning("leader", message, _RESTART)


def has_died(owner: str) -> bool:
    """Return whether `host:pid:...` is a dead process of this host; False for any other host."""
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
