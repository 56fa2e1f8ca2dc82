"""Hosts as operators order them: which are drained."""

from __future__ import annotations

import msgspec

from rlm.ledger.connect import MICROSECONDS, text
from rlm.ledger.scripts import Part
from rlm.ledger.ways import Ways, cut_off


class Drain(msgspec.Struct, frozen=True):
    """The order that a host takes no share: `at` in seconds since 1970 by the clock of Redis, `by` user@host, why."""

    at: float
    by: str
    reason: str = ""


class Hosts(Part):
    """What holds of a host, whichever of its processes live. An order stands until it is taken back."""

    def drain(self, host: str, by: str, reason: str = "") -> bool:
        """Order that a host takes no share; return whether that is new."""
        ((seconds, microseconds),) = self._batch([("TIME",)])
        order = msgspec.json.encode(Drain(seconds + microseconds / MICROSECONDS, by, reason))
        (new,) = self._batch([("HSET", self._keys.drains, host, order)])
        return bool(new)

    def take_back(self, host: str) -> bool:
        """Take the order back; return whether there was one."""
        (removed,) = self._batch([("HDEL", self._keys.drains, host)])
        return bool(removed)

    def drains(self) -> dict[str, Drain]:
        """Return the hosts that are to take no share."""
        found = self._hgetall(self._keys.drains)
        return {text(host): msgspec.json.decode(order, type=Drain) for host, order in found.items()}

    def idle(self) -> dict[str, int]:
        """Return the hosts that get no share now, and how many workers they keep.

        Those that are drained keep none. Those that are cut off keep one, which probes their ways.
        """
        cut = cut_off(Ways(self._client, self._keys).look())
        return dict.fromkeys(cut, 1) | dict.fromkeys(self.drains(), 0)
