"""The clock of Redis, as this process knows it by its own clock that never steps: drift is followed, a step noticed."""

from __future__ import annotations

import threading

from rlm.core.clock import system_clock
from rlm.ledger.values import MICROSECONDS


class RedisClock:
    """Follows the clock of Redis by a clock of this host that never steps. Any thread may use it.

    Each answer of Redis bounds the difference of the two clocks. Bounds that agree are intersected, so a slow answer
    changes nothing that is known better. If they do not agree, the newer ones hold; if they lie further apart than the
    guard, the clock has stepped. Before the first answer it is the wall clock of this host.

    Who asks next says so, with the `epoch` of the lease (lua/doubt.lua). The script that finds the same epoch there
    holds all endpoints and begins another one, from which everybody learns that the step is known.
    """

    def __init__(self, guard_seconds: float) -> None:
        """Take a jump of more than `guard_seconds` for a step.

        If that is less than 50 ms, one of these: between two looks of an idle process a clock that runs 0.3 % fast
        gains 15.
        """
        self._step_seconds = max(guard_seconds, 0.05)
        self._lock = threading.Lock()
        #: The least and the most that the clock of Redis is ahead, and when that was learned, seconds.
        self._ahead: tuple[float, float, float] | None = None
        self._epoch, self._stepped_us, self._stepped_at = "", 0, float("-inf")

    @property
    def doubts(self) -> tuple[str, int]:
        """The epoch as it was heard last, and by how much the clock has stepped since, microseconds; 0 for no step."""
        with self._lock:
            return self._epoch, self._stepped_us

    def hear(self, asked_at: float, redis_us: int, answered_at: float, epoch: str = "") -> None:
        """Note the time that Redis returned (microseconds) between two moments of `system_clock.monotonic`, seconds.

        `epoch` is that of the lease, if the answer has it.
        """
        redis = redis_us / MICROSECONDS
        low, high = redis - answered_at, redis - asked_at
        with self._lock:
            if self._ahead is not None and asked_at >= self._stepped_at:  # an older answer may be of the old clock
                least, most, at = self._ahead
                slack = 0.0005 * max(0.0, answered_at - at)  # NTP slews a clock by 500 ppm at most
                gap = max(low - most, least - high, 0.0)
                if gap > self._step_seconds:
                    self._stepped_us += round((low + high - least - most) / 2 * MICROSECONDS)
                    self._stepped_at = answered_at
                elif gap <= slack:
                    low, high = max(low, least - slack), min(high, most + slack)
                self._ahead = min(low, high), max(low, high), answered_at
            elif self._ahead is None:
                self._ahead = low, high, answered_at
            if epoch not in {"", self._epoch}:
                self._epoch, self._stepped_us = epoch, 0

    def now(self) -> float:
        """Return the time of Redis, seconds since 1970."""
        return self.at(system_clock.monotonic())

    def at(self, moment: float) -> float:
        """Return the time of Redis at a moment of `system_clock.monotonic`."""
        bounds = self._ahead
        ahead = system_clock.now() - system_clock.monotonic() if bounds is None else (bounds[0] + bounds[1]) / 2
        return moment + ahead

    def reached_at(self, redis_us: int) -> float:
        """Return the moment of `system_clock.monotonic` at which the clock of Redis has certainly reached a time."""
        bounds = self._ahead
        ahead = system_clock.now() - system_clock.monotonic() if bounds is None else bounds[0]
        return redis_us / MICROSECONDS - ahead

    def expects_us(self) -> int | None:
        """Return the time that Redis should have now, microseconds; None before its first answer."""
        return None if self._ahead is None else round(self.now() * MICROSECONDS)
