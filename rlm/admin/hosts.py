"""The hosts: the state of each, and an operator's orders for a host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from rlm.admin.endpoints import check_reason
from rlm.core.clock import isoformat
from rlm.core.errors import NoSuchHostError
from rlm.core.tally import MOST_NAMED
from rlm.core.text import named, safe_line, span
from rlm.ledger import Store
from rlm.ledger.claims import host_of
from rlm.ledger.hosts import DrainOrder, idle_of
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Process, Role, WorkerState
from rlm.ledger.reading.present import Present, present
from rlm.processes.sharing import divide

#: The reason if every host that could take workers is drained.
NO_HOST = "no host takes workers, because all are drained, so nothing is sent"


class HostState(StrEnum):
    """The state of a host, as one word."""

    READY = "ready"
    UNSUPERVISED = "unsupervised"  #: only a scheduler, or workers started by hand, run there
    DRAINING = "draining"  #: an operator ordered it to take no share
    CUT_OFF = "cut off"  #: it reaches Redis, but no endpoint that others reach
    SILENT = "silent"  #: it is missing from the register for now: it is lost, or its entry is
    LOST = "lost"  #: it is no longer heard from, and did not sign off


def hosts(store: Store, there: Present | None = None) -> list[dict[str, Any]]:
    """Return every host that works, stands by or did not sign off, by name, as `rlm supervisor list` prints them."""
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
        self._lost = store.hosts.lost()
        gone = {host_of(one) for one in missing} | set(self._lost)
        self._silent = gone - {host for host, roles in self._by_host.items() if roles[Role.SUPERVISOR]}
        self._drains: Mapping[str, DrainOrder] = store.hosts.drains()
        self._ways = store.ways.look()
        self._names: dict[str, list[str]] = defaultdict(list)
        for endpoint in store.settings.endpoints.values():
            self._names[endpoint.window_id].append(endpoint.name)
        self.names = gone | set(self._by_host) | set(self._drains)
        self._leader = there.holder
        living = {role: [one for roles in self._by_host.values() for one in roles[role]] for role in Role}
        idle = idle_of(self._ways, self._drains)
        self._shares = divide(processes.wanted(), living[Role.SUPERVISOR], idle, self._ways)
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
        if silence is None and host in self._lost:
            silence = HEARTBEAT_TTL_SECONDS + self._lost[host]
        return {
            "host": host,
            "state": self._state(host),
            "why": self._why(host),
            "unreached": self._unreached(host),
            "labels": {name: value for offer in offers for name, value in offer.labels.items()},
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
            return HostState.LOST if host in self._lost else HostState.SILENT
        if self._is_cut_off(host):
            return HostState.CUT_OFF
        if host in self._drains:
            return HostState.DRAINING
        return HostState.READY if self._by_host[host][Role.SUPERVISOR] else HostState.UNSUPERVISED

    def _is_cut_off(self, host: str) -> bool:
        return host in self._ways and self._ways[host].cut_off

    def _unreached(self, host: str) -> list[dict[str, Any]]:
        """Return the endpoints that this host does not reach, longest first; other hosts may reach them."""
        return [
            {"endpoint": name, "since": isoformat(way.since), "why": way.why, "failures": way.failures}
            for way in (self._ways[host].shut if host in self._ways else ())
            for name in self._names.get(way.window_id, ())
        ]

    def _why(self, host: str) -> str | None:
        if host in self._silent:
            lost = self._lost.get(host)
            since = "at this moment" if lost is None else f"for {span(HEARTBEAT_TTL_SECONDS + lost)}"
            return f"its supervisor is not heard from {since}, and did not sign off"
        order = self._drains.get(host)
        if order is None or self._is_cut_off(host):
            return self._why_unreached(host)
        return f"drained by {order.by} at {isoformat(order.at)}" + (f": {order.reason}" if order.reason else "")

    def _why_unreached(self, host: str) -> str | None:
        unreached = self._unreached(host)
        if not unreached:
            return None
        names = named([one["endpoint"] for one in unreached], MOST_NAMED)
        rest = ", and nothing gets through to any other" if self._is_cut_off(host) else ""
        return f"it has not reached {names} since {isoformat(self._ways[host].since)} ({unreached[-1]['why']}){rest}"


def nobody_takes_workers(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether some hosts could take workers, but all of those are drained."""
    able = [one for one in entries if one["capacity"]]
    return bool(able) and all(one["state"] == HostState.DRAINING for one in able)


def hosts_unwell(found: Mapping[str, Any]) -> list[str]:
    """Return in words which hosts of a document are not in service, and why."""
    entries = found.get("hosts", ())  # records, and statuses of older versions, have none
    told = [f"host {one['host']} is {one['state']}: {one['why']}" for one in entries if one["why"]]
    return [*([NO_HOST] if nobody_takes_workers(entries) else []), *map(safe_line, told)]


#: Most hosts to name in a message.
_MOST_NAMED = 8


def drain(store: Store, host: str, by: str, reason: str = "", *, off: bool = False) -> dict[str, Any]:
    """Give a host no share of the wanted workers; if `off`, give it its share again.

    Its workers finish their calls, and other hosts take its share. The order stays in Redis until it is revoked,
    whatever is restarted; supervisors see it at once.

    Raises:
        NoSuchHostError: no such host is known.
    """
    entry, reason = _known(store, host), check_reason(reason)
    store.orders.note(by, "", "undrain_host" if off else "drain_host", host, reason)
    changed = store.hosts.take_back(host) if off else store.hosts.drain(host, by, reason)
    store.processes.wake("supervisors")
    # How many workers the hosts in service can take.
    left = sum(one["capacity"] or 0 for one in hosts(store) if one["state"] == HostState.READY)
    return {"host": host, "drained": not off, "changed": changed, "workers": entry["workers"], "left": left}


def workers_on(store: Store, host: str) -> int:
    """Return how many workers are alive on a host."""
    return sum(one.host == host for one in store.processes.alive(Role.WORKER))


def forget(store: Store, host: str, by: str) -> dict[str, Any]:
    """Remove a lost host from the register until it is back; raise a NoSuchHostError if it is unknown or alive."""
    entry = _known(store, host)
    if entry["state"] not in {HostState.LOST, HostState.SILENT}:
        instead = f"to stop its work, stop its supervisor, or `rlm supervisor drain {host}`"
        raise NoSuchHostError(f"Host {host} is heard from, so it cannot be forgotten; {instead}.")
    store.orders.note(by, "", "forget_host", host, "")
    store.hosts.forget(host)
    return {"host": host, "forgotten": True}


def _known(store: Store, host: str) -> dict[str, Any]:
    entries = {one["host"]: one for one in hosts(store)}
    if host not in entries:
        known = f"known are {named(sorted(entries), _MOST_NAMED)}" if entries else "none is known"
        raise NoSuchHostError(f"There is no host {host!r}; {known}. `rlm supervisor list` shows them.")
    return entries[host]
