"""The processes: scheduler, leader, supervisor, workers; and the hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rlm.admin.attendance import TAKEOVER_SECONDS, revision_in_force
from rlm.admin.hosts import HostState, hosts
from rlm.core.clock import system_clock
from rlm.core.text import counted, named, span
from rlm.ledger import Store
from rlm.ledger.fitness import Finding, fault, good, warning
from rlm.ledger.leases import Tenure
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.processes.alive import has_died

#: A scheduler that has missed this many ticks is stuck.
MISSED_TICKS = 2
#: Seconds that a worker may take to be ready, on a host that starts many at once.
COMING_UP_SECONDS = 10.0
#: Processes to name in a finding; the others are counted.
MOST_NAMED = 5

#: A living scheduler renews its lease within so many seconds; it does so twice a second.
PROLONG_SECONDS = 1.0
_RESTART = "check whether it is alive (ps, its log) and restart it; a second scheduler takes over by itself within 5 s"
_GONE = "check whether it is up and reaches Redis"
_WAYS = "check its route, resolver and firewall towards what it does not reach"


def check_scheduler(store: Store) -> Finding:
    """Check that a scheduler with this configuration runs and ticks."""
    schedulers, holder = store.processes.alive(Role.SCHEDULER), store.leases.holder()
    run = store.runs.current()
    if not schedulers and holder:
        return good(f"none is running, {holder} conducts a run by hand")
    if not schedulers:
        unconducted = f"; run {run.id} is open, and nobody conducts it" if run else ""
        return _none(store, Role.SCHEDULER, "no run starts by itself", unconducted)
    if stale := _of_another_configuration(store, schedulers):
        return stale
    every = store.settings.run.every_seconds
    since = max(store.schedule.last_tick() or 0.0, min(one.started_at for one in schedulers))
    silent = store.now() - since
    if silent > MISSED_TICKS * every and run is None:
        message = f"it has not ticked for {span(silent)}, although a tick is due every {every:g} s"
        return warning(message, "read its log, and restart it")
    standby = ", the others stand by" if holder and len(schedulers) > 1 else ""
    return good(f"{len(schedulers)} running, {holder or 'none yet'} leads{standby}")


def check_supervisor(store: Store) -> Finding:
    """Check that a supervisor with this configuration runs, and at most one per host."""
    supervisors = store.processes.alive(Role.SUPERVISOR)
    if not supervisors:
        lacking = _none(store, Role.SUPERVISOR, "no worker is started")
        missed = store.runs.current() and store.processes.wanted() > len(store.processes.alive(Role.WORKER))
        return fault(lacking.message, lacking.remedy) if missed else lacking
    if stale := _of_another_configuration(store, supervisors):
        return stale
    by_host = Counter(one.host for one in supervisors)
    twice = [f"{number} on {host}" for host, number in sorted(by_host.items()) if number > 1]
    more = f" ({named(twice, MOST_NAMED)}, although one is enough)" if twice else ""
    return good(f"{len(supervisors)} running, on {', '.join(sorted(by_host))}{more}")


def _none(store: Store, role: Role, so: str, unconducted: str = "") -> Finding:
    """Return the finding that no process of a role runs, with those that hang or died without signing off."""
    message, remedy = f"none is running, so {so}", f"`rlm up` or `rlm {role}` starts one"
    if missing := store.processes.missing(role):
        gone = named(missing, MOST_NAMED)
        message = f"none is heard from, so {so}; {gone} did not sign off: it hangs, has died, or is too far from Redis"
        remedy = f"check on its host whether it still runs (host:pid), and end it if so; {remedy}"
    return (fault if unconducted else warning)(f"{message}{unconducted}", remedy)


def _of_another_configuration(store: Store, processes: Sequence[Process]) -> Finding | None:
    stale = next((one.id for one in processes if one.revision != store.settings.revision), None)
    return warning(f"{stale} runs another configuration", "restart it") if stale else None


def check_workers(store: Store) -> Finding:
    """Check that the wanted workers are ready, and that all have the configuration of their run."""
    workers, wanted, run = store.processes.alive(Role.WORKER), store.processes.wanted(), store.runs.current()
    ready = sum(one.state == WorkerState.READY for one in workers)
    young = system_clock.now() - COMING_UP_SECONDS
    coming = sum(one.state == WorkerState.STARTING and one.started_at >= young for one in workers)
    message = f"{ready} ready of {wanted} wanted" + (f", {coming} coming up" if coming else "")
    revision = revision_in_force(store)
    if other := [one.id for one in workers if one.revision != revision]:
        return (warning if ready - len(other) >= wanted else fault)(
            f"{message}; of another configuration: {named(other, MOST_NAMED)}",
            "they claim nothing: restart each process of another configuration, schedulers and supervisors alike; a "
            "worker has the configuration of its supervisor",
        )
    if not workers and run is None and not store.processes.alive(Role.SUPERVISOR):
        return good("none; they start when a run needs them")  # the missing supervisor has its own finding
    if ready + coming >= wanted:
        return good(message)
    if shortage := (run.forecast.shortage if run and run.forecast else None):
        return fault(shortage, "start a supervisor (`rlm up` or `rlm supervisor`); if one runs, read its log")
    return warning(message, "start a supervisor; if one runs, its log says why, or wait a moment")


def check_leader(store: Store) -> Finding:
    """Compare the lease with the register: who leads, who stands by, or why nobody does."""
    schedulers, tenure = store.processes.alive(Role.SCHEDULER), store.leases.tenure()
    others = [one.id for one in schedulers if not tenure or one.id != tenure.owner]
    if tenure and tenure.left_seconds > 0:
        return _leading(store, tenure, others)
    if not schedulers:
        return good("nobody leads, because no scheduler runs")
    if tenure:
        return _vacant(tenure, others, store.settings.host_name)
    names = ", ".join(others)
    if system_clock.now() - max(one.started_at for one in schedulers) <= TAKEOVER_SECONDS:
        return good(f"nobody leads yet; {names} has just started")
    return warning(f"nobody leads, although {names} is registered", _RESTART)


def _leading(store: Store, tenure: Tenure, others: Sequence[str]) -> Finding:
    if has_died(tenure.owner, store.settings.host_name) and not _is_prolonged(store, tenure):
        message = f"{tenure.owner} holds the lease for another {span(tenure.left_seconds)}, and is dead"
        then = f"nothing: {others[0]} takes it then" if others else "`rlm up` or `rlm scheduler` starts another"
        return warning(message, then)
    return good(f"{tenure.owner} leads{f', {len(others)}' if others else '; nobody'} would take over if it died")


def _is_prolonged(store: Store, tenure: Tenure) -> bool:
    """Return whether the lease is being renewed: its holder may run in a container, where its pid cannot be seen."""
    system_clock.sleep(PROLONG_SECONDS)
    later = store.leases.tenure()
    return later is not None and later.left_seconds > tenure.left_seconds - PROLONG_SECONDS / 2


def _vacant(tenure: Tenure, others: Sequence[str], here: str) -> Finding:
    ago = -tenure.left_seconds
    if ago <= TAKEOVER_SECONDS and others:
        return good(f"the lease of {tenure.owner} ran out {span(ago)} ago; another scheduler is about to take it")
    state = "is dead" if has_died(tenure.owner, here) else "does not answer"
    nor = f"; nor does {', '.join(others)} take it" if others else ""
    return warning(f"nobody leads: {tenure.owner} {state}, and its lease ran out {span(ago)} ago{nor}", _RESTART)


def check_hosts(store: Store) -> Iterator[Finding]:
    """Check that every known host is in service."""
    found = hosts(store)
    unwell = [one for one in found if one["why"]]
    for one in unwell:
        message = f"{one['host']} is {one['state']}: {one['why']}"
        yield warning(message, _GONE if one["state"] == HostState.SILENT else _WAYS)
    if not unwell:
        yield good(f"{counted(len(found), 'host')}, all in service" if found else "none is known")
