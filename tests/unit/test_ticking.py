"""Ticks as they come, whatever the wall clock does: none is lost, and a leap of years takes no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scheduler.ticks import Ticks, TickTrigger

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def test_a_tick_that_was_noted_is_taken_once():
    """However often it was noted before."""
    ticks = Ticks(360.0)
    assert not ticks.take(360.0)

    ticks.remember()
    ticks.remember()

    assert ticks.take(360.0)
    assert not ticks.take(360.0)


def test_a_tick_that_nobody_noted_is_taken_once():
    """Whether the clock went on or was set back: the last one due is another than before."""
    ticks = Ticks(360.0)

    assert [ticks.take(last) for last in (540.0, 540.0, 180.0, 180.0, 360.0)] == [True, False, True, False, True]


def test_a_tick_that_is_noted_while_another_is_taken_is_not_forgotten():
    """It is noted by another thread, which may be between any two steps of this one."""
    ticks = Ticks(360.0)
    looks = iter([False, True])

    class Due:
        def is_set(self):
            """Answer as of before the tick is noted, right after this."""
            return next(looks)

        def clear(self):
            assert next(looks, None) is None, "the tick that was noted meanwhile is forgotten"

    ticks._due = Due()

    assert not ticks.take(360.0)
    assert ticks.take(360.0)


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
