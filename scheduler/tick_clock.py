"""The clock of a scheduler: APScheduler, which says when a tick is due. A run by hand has no ticks and does without."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from scheduler.ticks import last_due

if TYPE_CHECKING:
    from collections.abc import Callable


class TickTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at multiples of a period by the clock of Redis.

    The stock trigger goes by the clock of the host. After a leap of that, such as from 1970 to today while a machine
    boots, it would count through all the multiples in between, one by one.
    """

    def __init__(self, every_seconds: float, redis_now: Callable[[], float]) -> None:
        self._every_seconds = every_seconds
        self._redis_now = redis_now

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """Return when the next multiple comes, by the clock of this host, which is at `now`."""
        redis_now = self._redis_now()
        left = last_due(redis_now, self._every_seconds) + self._every_seconds - redis_now
        return datetime.fromtimestamp(now.timestamp() + left, UTC)


def start_clock(
    every_seconds: float, redis_now: Callable[[], float], on_tick: Callable[[], None]
) -> BackgroundScheduler:
    """Start APScheduler, which calls `on_tick` at multiples of `every_seconds`, late rather than never."""
    clock = BackgroundScheduler(timezone=UTC)
    trigger = TickTrigger(every_seconds, redis_now)
    clock.add_job(on_tick, trigger, id="tick", misfire_grace_time=None, coalesce=True, max_instances=1)
    clock.start()
    return clock
