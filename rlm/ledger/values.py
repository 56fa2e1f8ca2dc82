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
#: The longest time that is waited, seconds; the system cannot wait much longer.
LONGEST = 1e9
#: No number in Redis is larger, except the ends of pauses without an end.
MOST = 2**60
#: A moment in a JSON document, seconds since 1970.
Moment = Annotated[float, msgspec.Meta(ge=0, le=LATEST)]

#: Minimum seconds between two log lines about the same key.
_QUIET_SECONDS = 60.0

_T = TypeVar("_T")
log = logging.getLogger(__name__)
_told: dict[str, float] = {}


def whole(raw: bytes | str | float) -> int:
    """Return a whole number; raise ValueError if it is none, or too large."""
    number = int(raw)
    if abs(number) > MOST:
        raise ValueError(f"too large: {raw!r}")
    return number


def number(raw: bytes | str | float) -> float:
    """Return a number; raise ValueError if it is none, not finite or too large."""
    if not abs(found := float(raw)) <= MOST:
        raise ValueError(f"not a number in use: {raw!r}")
    return found


def moment(raw: bytes | str | float) -> float:
    """Return seconds since 1970 from the same; raise ValueError if they are no number."""
    return min(max(0.0, number(raw)), LATEST)


def duration(raw: bytes | str | float) -> float:
    """Return seconds that one can wait; raise ValueError if they are no number."""
    return min(max(0.0, number(raw)), LONGEST)


def moment_of_us(raw: bytes | str | float) -> float:
    """Return seconds since 1970 from microseconds; raise ValueError if they are no number."""
    return min(max(0.0, whole(raw) / MICROSECONDS), LATEST)


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
    read = {name.decode(errors="replace"): reading(whole, value, key, None) for name, value in fields.items()}
    return {name: found for name, found in read.items() if found is not None}


def name_unreadable(key: str, raw: bytes, error: Exception) -> None:
    """Log that a key holds something that RLM does not write, once a minute at most."""
    if system_clock.monotonic() - _told.get(key, -math.inf) < _QUIET_SECONDS:
        return
    _told[key] = system_clock.monotonic()
    shown = safe_line(raw[:60].decode(errors="replace"))
    told = "%s holds %r, which RLM does not write and passes over (%s)"
    log.error(told, safe_line(key), shown, safe_line(str(error)), extra={"action": "read_unreadable"})
