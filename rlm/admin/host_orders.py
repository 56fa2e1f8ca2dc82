"""What operators order of a host: to take no share of the workers, to take its share again, to be forgotten.

A drain stands in Redis until it is taken back, whatever is restarted meanwhile; supervisors see it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.endpoints import check_reason
from rlm.admin.hosts import HostState, hosts
from rlm.core.errors import NoSuchHostError
from rlm.core.text import named
from rlm.ledger.processes import Role

if TYPE_CHECKING:
    from rlm.ledger import Store

#: Hosts that a message names.
_MOST_NAMED = 8


def drain(store: Store, host: str, by: str, reason: str = "") -> dict[str, Any]:
    """Give a host no share of the workers wanted: its workers finish their calls, the others take its share.

    Raises:
        NoSuchHostError: no such host is known.
    """
    entry = _known(store, host)
    reason = check_reason(reason)
    store.orders.note(by, "", "drain_host", host, reason)
    changed = store.hosts.drain(host, by, reason)
    store.processes.wake("supervisors")
    return {"host": host, "drained": True, "changed": changed, "workers": entry["workers"], "left": _left(store)}


def take_back(store: Store, host: str, by: str, reason: str = "") -> dict[str, Any]:
    """Give a drained host its share again.

    Raises:
        NoSuchHostError: no such host is known, nor is it drained.
    """
    entry = _known(store, host)
    reason = check_reason(reason)
    store.orders.note(by, "", "undrain_host", host, reason)
    changed = store.hosts.take_back(host)
    store.processes.wake("supervisors")
    return {"host": host, "drained": False, "changed": changed, "workers": entry["workers"], "left": _left(store)}


def workers_on(store: Store, host: str) -> int:
    """Return how many workers live on a host."""
    return sum(one.host == host for one in store.processes.alive(Role.WORKER))


def forget(store: Store, host: str, by: str) -> dict[str, Any]:
    """Remove a host that is lost from the register: it is named no more, until it is back.

    Raises:
        NoSuchHostError: no such host is known, or it is heard of.
    """
    entry = _known(store, host)
    if entry["state"] not in {HostState.LOST, HostState.SILENT}:
        instead = f"to have it work no more, stop its supervisor, or `rlm supervisor drain {host}`"
        raise NoSuchHostError(f"Host {host} is heard of, so it cannot be forgotten; {instead}.")
    store.orders.note(by, "", "forget_host", host, "")
    store.hosts.forget(host)
    return {"host": host, "forgotten": True}


def _left(store: Store) -> int:
    """Return how many workers the hosts that take a share can take."""
    return sum(one["capacity"] or 0 for one in hosts(store) if one["state"] == HostState.READY)


def _known(store: Store, host: str) -> dict[str, Any]:
    entries = {one["host"]: one for one in hosts(store)}
    if host not in entries:
        known = f"known are {named(sorted(entries), _MOST_NAMED)}" if entries else "none is known"
        raise NoSuchHostError(f"There is no host {host!r}; {known}. `rlm supervisor list` shows them.")
    return entries[host]
