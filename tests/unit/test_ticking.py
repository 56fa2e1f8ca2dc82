"""When APScheduler fires, whatever the wall clock does: a leap of years takes no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scheduler.service import TickTrigger

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def test_it_fires_on_multiples_of_its_period():
    """The first time and ever after, late or not."""
    trigger = TickTrigger(180.0)

    first = trigger.get_next_fire_time(None, NOON + timedelta(seconds=7))
    assert first == NOON + timedelta(minutes=3)
    for late in (0.0, 0.5, 179.0):
        second = trigger.get_next_fire_time(first, first + timedelta(seconds=late))
        assert second == NOON + timedelta(minutes=6)


def test_a_leap_of_the_clock_is_passed_over_in_one_step():
    """From 1970, where a machine without a clock boots, to today lie ten million periods: that would take a minute."""
    trigger = TickTrigger(180.0)

    after = trigger.get_next_fire_time(datetime(1970, 1, 1, 0, 3, tzinfo=UTC), NOON + timedelta(seconds=7))

    assert after == NOON + timedelta(minutes=3)
