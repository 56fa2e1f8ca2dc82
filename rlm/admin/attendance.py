"""Who is there, by the register in Redis: who leads, with which configuration, and the hosts.

A process that is missing from the register may still live: Redis may have just lost its entry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from rlm.core.clock import isoformat
from rlm.core.documents import Host
from rlm.core.text import safe_line
from rlm.ledger.leases import Present, Standing, present
from rlm.ledger.processes import Process, Role, WorkerState, host_of
from rlm.ledger.store import Store
from rlm.processes.sharing import divide, serving

#: Seconds within which a living scheduler takes a free lease; it looks four times a second.
TAKEOVER_SECONDS: Final = 2.0


def leader(store: Store, there: Present | None = None) -> Process | None:
    """Return the leading scheduler; if none leads or a command conducts, one that may lead next."""
    return next(iter((there or present(store)).candidates), None)


def ticks_every_seconds(store: Store, there: Present | None = None) -> float:
    """Return the seconds between two runs, by the leading scheduler; by the settings if it does not say."""
    leads = leader(store, there)
    return (leads.ticks_every if leads else 0.0) or store.settings.run.every_seconds


def revision_in_force(store: Store, there: Present | None = None) -> str:
    """Return the revision of the open run, else of the scheduler, else of the settings; others claim nothing."""
    if run := store.runs.current():
        return run.revision
    leads = leader(store, there)
    return leads.revision if leads else store.settings.revision


def kept_apart(store: Store, standing: Standing) -> str:
    """Return why a process with these settings may not lead, if other types or URLs are in force; else ''."""
    if not standing.apart_seconds:
        return ""
    file, host = store.settings.source or "the built-in configuration", store.settings.host_name
    theirs = f" of {standing.other}" if standing.other else ""
    return safe_line(
        f"the types or URLs of {file} on {host} differ from those in force{theirs}: it may lead "
        f"{standing.apart_seconds:.0f} s after the last process with those has gone"
    )


class HostState(StrEnum):
    """The state of a host, as one word."""

    READY = "ready"
    UNSUPERVISED = "unsupervised"  #: only a scheduler, or workers started by hand, run there
    SILENT = "silent"  #: its supervisor is not heard from, and did not sign off


def hosts(store: Store, there: Present | None = None) -> tuple[Host, ...]:
    """Return every host that works, stands by or did not sign off, by name."""
    there = there or present(store)
    by_host: dict[str, dict[Role, list[Process]]] = defaultdict(lambda: {role: [] for role in Role})
    for role in Role:
        for process in there.living(role):
            by_host[process.host][role].append(process)
    supervisors, workers = there.living(Role.SUPERVISOR), [worker.id for worker in there.living(Role.WORKER)]
    silent = {host_of(name) for name, entry, _ in there.entries[Role.SUPERVISOR] if entry is None}
    silent -= {supervisor.host for supervisor in supervisors}
    shares = divide(store.processes.wanted(), serving(supervisors, store.leases.revision()))
    busy = dict(zip(workers, map(len, store.processes.lanes(workers)), strict=True))
    entries = []
    for host in sorted({*by_host, *silent}):
        roles = by_host[host]
        state = HostState.READY if roles[Role.SUPERVISOR] else HostState.UNSUPERVISED
        entry = _describe(host, HostState.SILENT if host in silent else state, roles, there.holder)
        share = sum(shares.get(supervisor.id, 0) for supervisor in roles[Role.SUPERVISOR])
        entries.append(replace(entry, share=share, busy=sum(busy[worker.id] for worker in roles[Role.WORKER])))
    return tuple(entries)


def _describe(host: str, state: HostState, roles: Mapping[Role, Sequence[Process]], leader: str | None) -> Host:
    workers, supervisors, schedulers = roles[Role.WORKER], roles[Role.SUPERVISOR], roles[Role.SCHEDULER]
    offers = [supervisor.offer for supervisor in supervisors if supervisor.offer]
    leads = any(scheduler.id == leader for scheduler in schedulers)
    every = [*workers, *supervisors, *schedulers]
    return Host(
        host=host,
        state=state,
        sleeping=sum(bool(worker.sleeping) for worker in workers),
        capacity=max((offer.capacity for offer in offers), default=None),
        workers=len(workers),
        ready=sum(worker.state == WorkerState.READY for worker in workers),
        lanes=sum(worker.threads for worker in workers),
        scheduler=("leader" if leads else "standby") if schedulers else None,
        since=isoformat(min(process.started_at for process in every)) if every else None,
    )
