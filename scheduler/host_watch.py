"""The hosts that are lost: whoever leads names them, once, and tells when they are back. In mid-run and between runs.

A host is lost if none of its supervisors and schedulers is heard of for a heartbeat's life, and one did not sign off.
Its share of the workers is the others' by then (rlm/processes/peers.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.text import span
from rlm.ledger import Store
from rlm.ledger.claims import host_of
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role
from rlm.processes.peers import Peers

#: A host that has been lost for so long is forgotten, seconds.
FORGET_SECONDS = 86_400.0

log = logging.getLogger(__name__)


def unheard(store: Store, missing: Iterable[str]) -> set[str]:
    """Return the hosts of which nothing is heard, neither supervisor nor scheduler, among those of `missing` ones."""
    hosts = {host_of(one) for one in missing}
    if not hosts:
        return set()
    return hosts - {one.host for role in (Role.SUPERVISOR, Role.SCHEDULER) for one in store.processes.alive(role)}


def report_lost(store: Store, host: str) -> None:
    """Name a host that is lost, and raise the alarm, unless somebody has."""
    if store.hosts.lose(host):
        told = "Host %s is lost: nothing of it is heard of, and it did not sign off; the others have its share"
        extra = alarm(Alarm.HOST_LOST, "lose_host", host=host)
        log.warning(told, host, extra=extra)


class HostWatch:
    """Follows the hosts of an installation for one scheduler."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._peers = Peers(store)
        self._began_at = system_clock.monotonic()
        self._lost = True  #: as far as it knows there are some that are lost

    def look(self, *, aloud: bool) -> bool:
        """Note who lives; name who is lost or is back, if `aloud`. Return whether there are other hosts to follow."""
        found = self._peers.look()
        living = {one.host for one in self._peers.living}
        missing = [name for name, one in found.items() if one is None]
        if aloud and (missing or self._lost) and system_clock.monotonic() - self._began_at > HEARTBEAT_TTL_SECONDS:
            silent = unheard(self._store, missing)
            for host in sorted(silent - living):
                report_lost(self._store, host)
            self._see_back(silent)
        return bool(living - {self._store.settings.host_name})

    def _see_back(self, silent: set[str]) -> None:
        """Take note of those that are back, and of those that are not expected back any more."""
        for host, seconds in self._store.hosts.lost().items():
            if host not in silent:
                self._store.hosts.forget(host)
                log.info("Host %s is back, after %s", host, span(seconds), extra={"action": "find_host"})
            elif seconds > FORGET_SECONDS:
                self._store.hosts.forget(host)
                log.info("Host %s has been lost for a day, and is forgotten", host, extra={"action": "forget_host"})
        self._lost = bool(self._store.hosts.lost())
