"""Numbers and times as Redis holds them. Redis counts microseconds, Python seconds; here alone they are converted.

Whoever reaches Redis may have written anything. What is no number, or larger than any that RLM writes, counts as
missing, and its key is named in the log; a moment is moved into the years that can be written. So what is read here can
be used everywhere.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

import msgspec

from rlm.core.clock import system_clock
from rlm.core.text import safe_line

#: Redis counts time in microseconds.
MICROSECONDS = 1_000_000
#: The last moment that can be written, seconds since 1970: the end of the year 9999.
LATEST = 253_402_300_799.0
#: No number in Redis is larger, except the ends of pauses without an end.
MOST = 2**60
#: A moment in a JSON document, seconds since 1970.
Moment = Annotated[float, msgspec.Meta(ge=0, le=LATEST)]

_T = TypeVar("_T")
log = logging.getLogger(__name__)
#: When a log line named each key.
_named_at: dict[str, float] = {}


def whole(raw: bytes | str | float) -> int:
    """Return a whole number; raise ValueError if it is none, or too large."""
    if abs(value := int(raw)) > MOST:
        raise ValueError("too large")
    return value


def number(raw: bytes | str | float) -> float:
    """Return a number; raise ValueError if it is none, not finite or too large."""
    if not abs(value := float(raw)) <= MOST:
        raise ValueError("no number in use")
    return value


def moment(raw: bytes | str | float) -> float:
    """Return seconds since 1970 from the same; raise ValueError if they are no number."""
    return min(max(0.0, number(raw)), LATEST)


def moment_of_us(raw: bytes | str | float) -> float:
    """Return seconds since 1970 from microseconds; raise ValueError if they are no number."""
    return moment(whole(raw) / MICROSECONDS)


def duration(raw: bytes | str | float) -> float:
    """Return seconds that one can wait, the system cannot wait much longer; raise ValueError if they are no number."""
    return min(max(0.0, number(raw)), 1e9)


def reading(read: Callable[[bytes], _T], raw: bytes | None, key: str, missing: _T) -> _T:
    """Return what `read` makes of a value of `key`, or `missing` if there is none or it cannot be read."""
    if raw is None:
        return missing
    try:
        return read(raw)
    except (ValueError, ArithmeticError) as error:
        name_unreadable(key, raw, error)
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
        extra = {"action": "read_unreadable"}
        message = "%s holds %r, which RLM does not write and passes over (%s)"
        log.error(message, safe_line(key), shown, safe_line(str(error)), extra=extra)
