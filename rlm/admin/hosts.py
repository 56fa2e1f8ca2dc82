"""The hosts, and the state of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec.structs import replace

from rlm.core.clock import isoformat
from rlm.core.documents import Host
from rlm.core.text import counted, safe_line
from rlm.ledger.processes import Process, Role, WorkerState, host_of
from rlm.ledger.reading.present import Present, present
from rlm.ledger.store import Store
from rlm.processes.sharing import divide, serving


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
    asleep = [worker for worker in workers if worker.sleeping]
    why = f"{len(asleep):,} of {counted(len(workers), 'worker')} sleep: {asleep[0].sleeping}" if asleep else None
    if state is HostState.SILENT:
        why = "its supervisor is not heard from, and did not sign off"
    leads = any(scheduler.id == leader for scheduler in schedulers)
    every = [*workers, *supervisors, *schedulers]
    return Host(
        host=host,
        state=state,
        why=why,
        sleeping=len(asleep),
        capacity=max((offer.capacity for offer in offers), default=None),
        workers=len(workers),
        ready=sum(worker.state == WorkerState.READY for worker in workers),
        lanes=sum(worker.threads for worker in workers),
        scheduler=("leader" if leads else "standby") if schedulers else None,
        since=isoformat(min(process.started_at for process in every)) if every else None,
    )


def hosts_unwell(entries: Iterable[Host]) -> list[str]:
    """Return in words which hosts are not in service, and why."""
    return [safe_line(f"host {host.host} is {host.state}: {host.why}") for host in entries if host.why]
