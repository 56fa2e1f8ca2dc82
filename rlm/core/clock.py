"""The only caller of `time`: wall clock, monotonic clock and sleep behind one small protocol."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rest of RLM knows of time."""

    def now(self) -> float:
        """Return the wall clock, seconds since 1970 (UTC)."""
        ...

    def monotonic(self) -> float:
        """Return a clock that never steps, seconds."""
        ...

    def boottime(self) -> float:
        """Return a clock that never steps and goes on while the machine sleeps, seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return the wall clock, seconds since 1970 (UTC)."""
        return time.time()

    def monotonic(self) -> float:
        """Return a clock that never steps, seconds."""
        return time.monotonic()

    def boottime(self) -> float:
        """Return a clock that never steps and goes on while the machine sleeps, where there is one, seconds."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        time.sleep(seconds)


system_clock = SystemClock()


def isoformat(seconds: float) -> str:
    """Render `seconds` since 1970 as ISO 8601 in UTC, to the millisecond, as every record shows times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
