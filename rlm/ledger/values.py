"""Numbers and times as Redis holds them, and its clock. Redis counts microseconds, Python seconds.

Whoever reaches Redis may have written anything. What is no number, or larger than any that RLM writes, counts as
missing, and its key is named in the log; a moment is moved into the years that can be written. So what is read here can
be used everywhere.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

import msgspec

from rlm.core.clock import system_clock
from rlm.core.text import safe_line

MICROSECONDS = 1_000_000
#: The last moment that can be written, seconds since 1970: the end of the year 9999.
LATEST = 253_402_300_799.0
#: A moment in a JSON document, seconds since 1970.
Moment = Annotated[float, msgspec.Meta(ge=0, le=LATEST)]

_T = TypeVar("_T")
log = logging.getLogger(__name__)
#: When a log line named each key.
_named_at: dict[str, float] = {}


def number(raw: bytes | str | float) -> float:
    """Return a number; raise ValueError if it is none, not finite, or larger than any in use."""
    if not abs(value := float(raw)) <= 2**60:
        raise ValueError("no number in use")
    return value


def whole(raw: bytes | str | float) -> int:
    """Return a whole number; raise ValueError like `number`."""
    number(value := int(raw))
    return value


def moment(raw: bytes | str | float) -> float:
    """Return seconds since 1970 from the same; raise ValueError if they are no number."""
    return min(max(0.0, number(raw)), LATEST)


def moment_of_us(raw: bytes | str | float) -> float:
    """Return seconds since 1970 from microseconds; raise ValueError if they are no number."""
    return moment(whole(raw) / MICROSECONDS)


def us_of(seconds: float) -> int:
    """Return seconds in microseconds."""
    return round(seconds * MICROSECONDS)


def reading(read: Callable[[bytes], _T], raw: bytes | None, key: str, missing: _T) -> _T:
    """Return what `read` makes of a value of `key`, or `missing` if there is none or it cannot be read."""
    try:
        return missing if raw is None else read(raw)
    except (ValueError, ArithmeticError, RecursionError) as error:
        name_unreadable(key, raw or b"", error)
        return missing


def numbers(fields: Mapping[bytes, bytes], key: str) -> dict[str, int]:
    """Return the fields of a hash of whole numbers; those that are none are left out."""
    read = {name.decode(errors="replace"): reading(whole, raw, key, None) for name, raw in fields.items()}
    return {name: value for name, value in read.items() if value is not None}


def name_unreadable(key: str, raw: bytes, error: Exception) -> None:
    """Log that a key holds something that RLM does not write, once a minute at most."""
    now = system_clock.monotonic()
    if now >= _named_at.get(key, -math.inf) + 60:  # seconds
        _named_at[key] = now
        shown = safe_line(raw[:60].decode(errors="replace"))
        message = "%s holds %r, which RLM does not write and passes over (%s)"
        log.error(message, safe_line(key), shown, safe_line(str(error)), extra={"action": "read_unreadable"})


class RedisClock:
    """The clock of Redis, as this process knows it by its own clock that never steps. Any thread may use it.

    Each answer of Redis bounds the difference of the two clocks. Bounds that agree are intersected, so a slow answer
    changes nothing that is known better, and drift is followed. If they do not agree, the newer ones hold; if they lie
    further apart than the guard, the clock has stepped. Before the first answer it is the wall clock of this host.

    Who asks next says so, with the `epoch` of the lease (lua/endpoints.lua). The script that finds the same epoch there
    holds all endpoints and begins another one, from which everybody learns that the step is known.
    """

    def __init__(self, guard_seconds: float) -> None:
        """Take a jump of more than `guard_seconds` for a step, and of 50 ms, which an idle process drifts at most."""
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
            if self._ahead is None:
                self._ahead = low, high, answered_at
            elif asked_at >= self._stepped_at:  # an older answer may be of the old clock
                least, most, at = self._ahead
                slack = 0.0005 * max(0.0, answered_at - at)  # NTP slews a clock by 500 ppm at most
                gap = max(low - most, least - high, 0.0)
                if gap > self._step_seconds:
                    self._stepped_us += round((low + high - least - most) / 2 * MICROSECONDS)
                    self._stepped_at = answered_at
                elif gap <= slack:
                    low, high = max(low, least - slack), min(high, most + slack)
                self._ahead = min(low, high), max(low, high), answered_at
            if epoch not in {"", self._epoch}:
                self._epoch, self._stepped_us = epoch, 0

    def now(self) -> float:
        """Return the time of Redis, seconds since 1970."""
        bounds = self._ahead
        return system_clock.now() if bounds is None else system_clock.monotonic() + (bounds[0] + bounds[1]) / 2

    def reached_at(self, redis_us: int) -> float:
        """Return the moment of `system_clock.monotonic` at which the clock of Redis has certainly reached a time."""
        bounds = self._ahead
        ahead = system_clock.now() - system_clock.monotonic() if bounds is None else bounds[0]
        return redis_us / MICROSECONDS - ahead

    def expects_us(self) -> int | None:
        """Return the time that Redis should have now, microseconds; None before its first answer."""
        return None if self._ahead is None else round(self.now() * MICROSECONDS)
