"""The hosts: which are lost, silent or drained, and whether any takes workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.admin.doctor import fault, good, warning
from rlm.admin.host_words import NO_HOST, nobody_takes_workers
from rlm.admin.hosts import HostState, hosts
from rlm.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

_GONE = "see whether it is up and reaches Redis; `rlm supervisor forget {host}` if it will not be back"
_WAYS = "see its route, resolver and firewall towards what it does not reach"
_REMEDIES = {
    HostState.DRAINING: "`rlm supervisor drain {host} --off` puts it in service again",
    HostState.SILENT: "wait a moment; " + _GONE,
    HostState.LOST: _GONE,
}


def check_hosts(store: Store) -> Iterator[Finding]:
    """Check that every host that is known is in service."""
    found = hosts(store)
    if nobody_takes_workers(found):
        yield fault(NO_HOST, "put one in service again, or start a supervisor on another host")
    unwell = [one for one in found if one["why"]]
    for one in unwell:
        message = f"{one['host']} is {one['state']}: {one['why']}"
        yield warning(message, _REMEDIES.get(one["state"], _WAYS).format(host=one["host"]))
    if not unwell:
        yield good(f"{counted(len(found), 'host')}, all in service" if found else "none is known")
