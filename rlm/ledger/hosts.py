"""Facts about hosts, whichever of their processes live: which are drained, which are lost, which start workers.

There are `workers.max` places for workers over all hosts, and a supervisor asks for a place before it starts one. A
worker takes a place while it is heard from, even if it is about to leave, so when hosts take over from another there
are never more workers than allowed. Silent workers and those started by hand take no place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from rlm.core.endpoint import Endpoint, Limited
from rlm.core.window import WindowState
from rlm.ledger.claims import host_of
from rlm.ledger.connect import MICROSECONDS, text
from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Process, Role
from rlm.ledger.scripts import Part
from rlm.ledger.ways import HostWays, cut_off, shade

if TYPE_CHECKING:
    from rlm.ledger import Store


class DrainOrder(msgspec.Struct, frozen=True):
    """The order that a host takes no share: `at` in seconds since 1970 (Redis clock), `by` user@host, and why."""

    at: float
    by: str
    reason: str = ""


class Hosts(Part):
    """Orders and findings about hosts. They stay until they are taken back."""

    _store: Store

    def drain(self, host: str, by: str, reason: str = "") -> bool:
        """Order that a host takes no share; return whether the order is new."""
        order = msgspec.json.encode(DrainOrder(self._now(), by, reason))
        return bool(self._ask("HSET", self._keys.drains, host, order))

    def take_back(self, host: str) -> bool:
        """Take the order back; return whether there was one."""
        return bool(self._ask("HDEL", self._keys.drains, host))

    def drains(self) -> dict[str, DrainOrder]:
        """Return the hosts that must take no share, with the orders."""
        found = self._hgetall(self._keys.drains)
        return {text(host): msgspec.json.decode(order, type=DrainOrder) for host, order in found.items()}

    def idle(self) -> dict[str, int]:
        """Return the hosts that get no share now, with the number of workers that each keeps."""
        return idle_of(self._store.ways.look(), self.drains())

    def shade(
        self, windows: Mapping[str, WindowState], limited: Sequence[Limited], now_us: int = 0
    ) -> dict[str, WindowState]:
        """Return the windows as seen by the hosts that make calls, or would: see `rlm.ledger.ways.shade`."""
        ways = self._store.ways.look()
        return shade(windows, limited, ways, self._store.ways.calling() if ways else set(), now_us / MICROSECONDS)

    def unreached(self, endpoints: Sequence[Endpoint], ways: Mapping[str, HostWays]) -> dict[str, str]:
        """Return the endpoints that none of these hosts reaches, by name with how calls fail there."""
        windows = {one.name: WindowState() for one in endpoints}
        found = shade(windows, endpoints, ways, self._store.ways.calling() if ways else set(), now=0.0)
        return {name: window.unreached for name, window in found.items() if window.unreached}

    def lose(self, host: str) -> bool:
        """Record that a host is lost; return whether that is new."""
        return bool(self._ask("HSETNX", self._keys.lost, host, repr(self._now())))

    def lost(self) -> dict[str, float]:
        """Return the lost hosts, each with the seconds since its loss was noticed."""
        (seconds, microseconds), found = self._batch([("TIME",), ("HGETALL", self._keys.lost)])
        now = seconds + microseconds / MICROSECONDS
        return {text(host): max(0.0, now - float(at)) for host, at in found.items()}

    def forget(self, host: str) -> bool:
        """Remove the entries of a lost host; return whether it was recorded as lost.

        Its processes that are heard from stay in the register.
        """
        gone = [(role, one) for role, one in self._store.processes.missing_of(*_WITHOUT_WORK) if host_of(one) == host]
        self._batch(("SREM", self._keys.processes(role), one) for role, one in gone)
        return bool(self._ask("HDEL", self._keys.lost, host))


#: Roles whose dead hold nothing; a worker stays in the register until what it held is free.
_WITHOUT_WORK = (Role.SUPERVISOR, Role.SCHEDULER)


def idle_of(ways: Mapping[str, HostWays], drains: Iterable[str]) -> dict[str, int]:
    """Return the hosts that get no share, with the number of workers that each keeps.

    Drained hosts keep none. Hosts that are cut off keep one, which probes their ways.
    """
    return dict.fromkeys(cut_off(ways), 1) | dict.fromkeys(drains, 0)


#: A worker that was not heard from for this long takes no place, seconds; it normally announces itself sooner.
SILENT_SECONDS = HEARTBEAT_SECONDS + 0.5
_TTL_MS = round(HEARTBEAT_TTL_SECONDS * 1000)
#: How often it asks again at once if another host entered workers at the same moment.
TRIES = 5


class Places(Part):
    """Decides who may start workers, and how many."""

    def admit(self, new: Sequence[Process], own: int, most: int) -> int:
        """Enter as many of these `new` workers of one supervisor as there are places; return how many.

        There are `most` places; the supervisor's `own` workers take one each.
        """
        for _ in range(TRIES if new else 0):
            known, others = self._others(new[0].supervisor)
            entries = [self._keys.process(Role.WORKER, one.id) for one in new]
            keys = [self._keys.processes(Role.WORKER), *others, *entries]
            named = [part for one in new for part in (one.id, msgspec.json.encode(one))]
            counts = [known, most - own, len(others), _TTL_MS, *others.values()]
            if (entered := int(self._run("admit_workers", keys, [*counts, *named]))) >= 0:
                return entered
        return 0

    def left(self, supervisor_id: str, most: int) -> int:
        """Return how many of `most` places the workers of other supervisors leave."""
        _, others = self._others(supervisor_id)
        return max(0, most - sum(entry is not None for entry in self._mget(list(others))))

    def _others(self, supervisor_id: str) -> tuple[int, dict[str, int]]:
        """Return how many ids are in the register, and the entries of others' workers that take a place.

        Each comes with the least time it must have to live, milliseconds; with less, its worker is silent.
        """
        found = self._store.processes.heard(Role.WORKER)
        others = {
            self._keys.process(Role.WORKER, name): _TTL_MS - round(1000 * _silent_after(one))
            for name, one in found.items()
            if not name.startswith(f"{supervisor_id}:") and (one is None or one.supervisor)
        }
        return len(found), others


def _silent_after(worker: Process | None) -> float:
    return min(SILENT_SECONDS, worker.silent_after) if worker else SILENT_SECONDS
