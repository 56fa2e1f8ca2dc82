"""Ticks as they come: APScheduler notes them, and what it does not note, the clock having been set, is found anyway."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from apscheduler.triggers.interval import IntervalTrigger

from scheduler.tick import last_due


class Ticks:
    """Remembers that a tick is due, one however many came."""

    def __init__(self, last: float) -> None:
        """Begin after the tick of `last`, seconds since 1970."""
        self._due = threading.Event()
        self._last = last

    def remember(self) -> None:
        """Note that a tick is due."""
        self._due.set()

    def take(self, last: float) -> bool:
        """Tell whether a tick is due, and forget it; `last` is when by the wall clock the last one was.

        Another than before is one that is due, also where nobody noted it: APScheduler notes none until a clock that
        was set back has caught up.
        """
        if last == self._last and not self._due.is_set():
            return False
        self._last = last
        self._due.clear()  # one that is noted from here on is due again
        return True


class TickTrigger(IntervalTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at multiples of a period on the wall clock.

    After a leap of the clock, from 1970 to today on a machine that knew no better when it booted, the stock one would
    count through all the multiples in between, one by one.
    """

    def __init__(self, every_seconds: float) -> None:
        super().__init__(seconds=every_seconds, start_date=datetime.fromtimestamp(0, UTC), timezone=UTC)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> Any:
        """Return when it fires after `previous_fire_time`; multiples long before `now` are passed over."""
        if previous_fire_time is not None:
            last = datetime.fromtimestamp(last_due(now.timestamp(), self.interval_length), UTC)
            previous_fire_time = max(previous_fire_time, last)
        return super().get_next_fire_time(previous_fire_time, now)
