"""The clock of a scheduler: APScheduler, which says when a tick is due. A run by hand has no ticks and does without."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from scheduler.ticks import last_due

if TYPE_CHECKING:
    from collections.abc import Callable


class TickTrigger(IntervalTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at multiples of a period on the wall clock.

    After a leap of the clock, such as from 1970 to today while a machine boots, the stock trigger would count through
    all the multiples in between, one by one.
    """

    def __init__(self, every_seconds: float) -> None:
        super().__init__(seconds=every_seconds, start_date=datetime.fromtimestamp(0, UTC), timezone=UTC)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> Any:
        """Return when it fires after `previous_fire_time`; multiples long before `now` are passed over."""
        if previous_fire_time is not None:
            last = datetime.fromtimestamp(last_due(now.timestamp(), self.interval_length), UTC)
            previous_fire_time = max(previous_fire_time, last)
        return super().get_next_fire_time(previous_fire_time, now)


def start_clock(every_seconds: float, on_tick: Callable[[], None]) -> BackgroundScheduler:
    """Start APScheduler, which calls `on_tick` at multiples of `every_seconds`, late rather than never."""
    clock = BackgroundScheduler(timezone=UTC)
    trigger = TickTrigger(every_seconds)
    clock.add_job(on_tick, trigger, id="tick", misfire_grace_time=None, coalesce=True, max_instances=1)
    clock.start()
    return clock
