"""The hosts, and the state of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from rlm.core.clock import isoformat
from rlm.core.text import counted, safe_line
from rlm.ledger import Store
from rlm.ledger.processes import Process, Role, WorkerState, host_of
from rlm.ledger.reading.present import Present, present
from rlm.processes.sharing import divide


class HostState(StrEnum):
    """The state of a host, as one word."""

    READY = "ready"
    UNSUPERVISED = "unsupervised"  #: only a scheduler, or workers started by hand, run there
    SILENT = "silent"  #: its supervisor is not heard from, and did not sign off


def hosts(store: Store, there: Present | None = None) -> list[dict[str, Any]]:
    """Return every host that works, stands by or did not sign off, by name."""
    found = _Found(store, there or present(store))
    return [found.describe(host) for host in sorted(found.names)]


class _Found:
    """The content of the register at one moment."""

    def __init__(self, store: Store, there: Present) -> None:
        processes = store.processes
        self._by_host: dict[str, dict[Role, list[Process]]] = defaultdict(lambda: {role: [] for role in Role})
        self._silences: dict[str, float] = {}
        missing: list[str] = []
        for role, found in there.register.items():
            for name, one, silence in found:
                if one is None:
                    missing += [name] if role is Role.SUPERVISOR else []
                    continue
                self._by_host[one.host][role].append(one)
                self._silences[one.host] = min(silence, self._silences.get(one.host, silence))
        gone = {host_of(one) for one in missing}
        self._silent = gone - {host for host, roles in self._by_host.items() if roles[Role.SUPERVISOR]}
        self.names = gone | set(self._by_host)
        self._leader = there.holder
        living = {role: [one for roles in self._by_host.values() for one in roles[role]] for role in Role}
        self._shares = divide(processes.wanted(), living[Role.SUPERVISOR])
        workers = [one.id for one in living[Role.WORKER]]
        self._busy = dict(zip(workers, processes.busy(workers), strict=True))

    def describe(self, host: str) -> dict[str, Any]:
        """Return what is known of a host."""
        roles = self._by_host[host]
        every = [one for processes in roles.values() for one in processes]
        workers, supervisors, schedulers = roles[Role.WORKER], roles[Role.SUPERVISOR], roles[Role.SCHEDULER]
        offers = [one.offer for one in supervisors if one.offer]
        leads = any(one.id == self._leader for one in schedulers)
        silence = self._silences.get(host)
        return {
            "host": host,
            "state": self._state(host),
            "why": self._why(host),
            "sleeping": sum(bool(one.sleeping) for one in workers),
            "versions": sorted({one.version for one in every if one.version}),
            "capacity": max((one.capacity for one in offers), default=None),
            "share": sum(self._shares[one.id] for one in supervisors),
            "workers": len(workers),
            "ready": sum(one.state == WorkerState.READY for one in workers),
            "lanes": sum(one.threads for one in workers),
            "busy": sum(self._busy[one.id] for one in workers),
            "supervisors": len(supervisors),
            "scheduler": ("leader" if leads else "standby") if schedulers else None,
            "heard_seconds": None if silence is None else round(max(0.0, silence), 3),
            "since": isoformat(min(one.started_at for one in every)) if every else None,
        }

    def _state(self, host: str) -> HostState:
        if host in self._silent:
            return HostState.SILENT
        return HostState.READY if self._by_host[host][Role.SUPERVISOR] else HostState.UNSUPERVISED

    def _why(self, host: str) -> str | None:
        if host in self._silent:
            return "its supervisor is not heard from, and did not sign off"
        workers = self._by_host[host][Role.WORKER]
        if asleep := [one for one in workers if one.sleeping]:
            return f"{len(asleep):,} of {counted(len(workers), 'worker')} sleep: {asleep[0].sleeping}"
        return None


def hosts_unwell(found: Mapping[str, Any]) -> list[str]:
    """Return in words which hosts of a document are not in service, and why."""
    entries = found.get("hosts", ())  # records, and statuses of older versions, have none
    told = [f"host {one['host']} is {one['state']}: {one['why']}" for one in entries if one["why"]]
    return list(map(safe_line, told))
