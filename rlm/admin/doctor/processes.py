"""The processes: scheduler, supervisors with their hosts, workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlm.admin.attendance import TAKEOVER_SECONDS, revision_in_force
from rlm.admin.hosts import HostState, hosts
from rlm.core.clock import system_clock
from rlm.core.text import named, span
from rlm.ledger.fitness import Finding, fault, good, warning
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.ledger.store import Store

#: A scheduler that has missed this many ticks is stuck.
MISSED_TICKS = 2
#: Seconds that a worker may take to be ready, on a host that starts many at once.
COMING_UP_SECONDS = 10.0
#: Processes to name in a finding; the others are counted.
MOST_NAMED = 5

_RESTART = "check whether it is alive (ps, its log) and restart it; a second scheduler takes over by itself within 5 s"
_GONE = "check whether it is up and reaches Redis"
_ASLEEP = "check its route, resolver and firewall towards the endpoints"


def check_scheduler(store: Store) -> Iterator[Finding]:
    """Check that a scheduler with this configuration runs, leads and ticks."""
    schedulers, tenure, run = store.processes.alive(Role.SCHEDULER), store.leases.tenure(), store.runs.current()
    leads = tenure.owner if tenure and tenure.left_seconds > 0 else None
    if not schedulers and leads:
        yield good(f"none is running, {leads} conducts a run by hand")
        return
    if not schedulers:
        unconducted = f"; run {run.id} is open, and nobody conducts it" if run else ""
        yield _none(store, Role.SCHEDULER, "no run starts by itself", unconducted)
        return
    came_at, now = min(one.started_at for one in schedulers), store.now()
    vacant = -tenure.left_seconds if tenure else now - came_at
    every = store.settings.run.every_seconds
    silent = now - max(store.schedule.last_tick() or 0.0, came_at)
    if stale := _of_another_configuration(store, schedulers):
        yield stale
    elif not leads and vacant > TAKEOVER_SECONDS:
        yield warning(f"nobody leads, although {schedulers[0].id} is registered", _RESTART)
    elif silent > MISSED_TICKS * every and run is None:
        message = f"it has not ticked for {span(silent)}, although a tick is due every {every:g} s"
        yield warning(message, "read its log, and restart it")
    else:
        standby = ", the others stand by" if leads and len(schedulers) > 1 else ""
        yield good(f"{len(schedulers)} running, {leads or 'none yet'} leads{standby}")


def check_supervisor(store: Store) -> Iterator[Finding]:
    """Check that a supervisor with this configuration runs, and that every known host is in service."""
    supervisors = store.processes.alive(Role.SUPERVISOR)
    if not supervisors:
        lacking = _none(store, Role.SUPERVISOR, "no worker is started")
        missed = store.runs.current() and store.processes.wanted() > len(store.processes.alive(Role.WORKER))
        yield fault(lacking.message, lacking.remedy) if missed else lacking
    elif stale := _of_another_configuration(store, supervisors):
        yield stale
    else:
        yield good(f"{len(supervisors)} running, on {', '.join(sorted({one.host for one in supervisors}))}")
    for host in hosts(store):
        if host.why:
            message = f"{host.host} is {host.state}: {host.why}"
            yield warning(message, _GONE if host.state == HostState.SILENT else _ASLEEP)


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


def check_workers(store: Store) -> Iterator[Finding]:
    """Check that the wanted workers are ready, and that all have the configuration of their run."""
    workers, wanted, run = store.processes.alive(Role.WORKER), store.processes.wanted(), store.runs.current()
    ready = sum(one.state == WorkerState.READY for one in workers)
    young = system_clock.now() - COMING_UP_SECONDS
    coming = sum(one.state == WorkerState.STARTING and one.started_at >= young for one in workers)
    message = f"{ready} ready of {wanted} wanted" + (f", {coming} coming up" if coming else "")
    revision = revision_in_force(store)
    shortage = run.forecast.shortage if run and run.forecast else None
    if other := [one.id for one in workers if one.revision != revision]:
        yield (warning if ready - len(other) >= wanted else fault)(
            f"{message}; of another configuration: {named(other, MOST_NAMED)}",
            "they claim nothing: restart each process of another configuration, schedulers and supervisors alike; a "
            "worker has the configuration of its supervisor",
        )
    elif not workers and run is None and not store.processes.alive(Role.SUPERVISOR):
        yield good("none; they start when a run needs them")  # the missing supervisor has its own finding
    elif ready + coming >= wanted:
        yield good(message)
    elif shortage:
        yield fault(shortage, "start a supervisor (`rlm up` or `rlm supervisor`); if one runs, read its log")
    else:
        yield warning(message, "start a supervisor; if one runs, its log says why, or wait a moment")
