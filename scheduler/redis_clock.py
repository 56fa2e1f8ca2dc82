"""The clock of Redis, as this process reckons it between two looks: what decides when a tick is due, on every host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.clock import system_clock

if TYPE_CHECKING:
    from rlm.ledger import Store


class RedisClock:
    """Follows the clock of Redis by one of this host that never steps; until it is heard, by the host's wall clock.

    A step of either clock moves no tick for longer than until the next look.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None

    def look(self, store: Store) -> None:
        """Ask Redis for its time. Raises StoreError."""
        asked_at = system_clock.boottime()
        self.hear(asked_at, store.now_us(), system_clock.boottime())

    def hear(self, asked_at: float, redis_us: int, answered_at: float) -> None:
        """Note what Redis said (microseconds) between two moments of `system_clock.boottime`, seconds.

        A slow answer leaves what is known as it is, as far as both can be true.
        """
        least, most = redis_us / 1_000_000 - answered_at, redis_us / 1_000_000 - asked_at
        known = (least + most) / 2 if self._ahead is None else self._ahead
        self._ahead = min(max(known, least), most)

    def now(self) -> float:
        """Return the time of Redis, seconds since 1970."""
        return self.at(system_clock.boottime())

    def at(self, moment: float) -> float:
        """Return the time of Redis at a moment of `system_clock.boottime`."""
        ahead = system_clock.now() - system_clock.boottime() if self._ahead is None else self._ahead
        return moment + ahead
