"""Ticks: which one is due, how many were missed, and when APScheduler fires, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rlm.core.clock import system_clock
from scheduler.service import TickTrigger
from scheduler.ticks import RedisClock, is_served, last_due, missed
from tests.each import each


@pytest.mark.parametrize(("now", "due"), [(360.0, 360.0), (361.5, 360.0), (539.9, 360.0), (0.5, 0.0)])
def test_a_late_tick_is_that_of_the_last_multiple(now, due):
    """Ticks lie on multiples of the period, however late somebody looks."""
    assert last_due(now, 180.0) == due


@each(
    ("last", "now", "served"),
    [
        (None, 361.0, False),
        (359.9, 361.0, False),
        (360.0, 361.0, True),
        (540.002, 539.95, True),  # by another host, whose clock is a little ahead
        (540.002, 540.001, True),
        (3960.0, 361.0, False),  # the clock was set back
    ],
)
def test_a_tick_is_served_once_whichever_host_did_it(last, now, served):
    """What was done at the time of a tick, or later, is not done again, unless that time is long to come."""
    assert is_served(last, last_due(now, 180.0), now) is served


@each(
    ("last", "due", "number"),
    [
        (None, 360.0, 0),  # there was none before
        (180.2, 360.0, 0),
        (180.2, 540.0, 1),
        (359.9, 540.0, 1),
        (180.2, 900.0, 3),
        (900.0, 360.0, 0),  # the clock was set back
    ],
)
def test_ticks_that_nobody_served_are_counted(last, due, number):
    """Between the last tick noted and the one that is due lie so many others."""
    assert missed(last, due, 180.0) == number


NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("ahead_seconds", [0.0, 30.0, -30.0, 365 * 86_400.0])
@pytest.mark.parametrize("late", [0.5, 179.0])
def test_it_fires_on_multiples_of_its_period_by_the_clock_of_redis(ahead_seconds, late):
    """The first time and ever after, late or not, wherever the clock of this host is."""
    now = NOON + timedelta(seconds=late)
    trigger = TickTrigger(180.0, lambda: now.timestamp() + ahead_seconds)

    for previous in (None, NOON, now):
        fires = trigger.get_next_fire_time(previous, now)
        assert fires > now
        assert (fires.timestamp() + ahead_seconds) % 180.0 == pytest.approx(0.0, abs=0.001)
        assert fires - now <= timedelta(seconds=180)


@pytest.fixture
def host(monkeypatch):
    """Set the clocks of this host: the wall clock, and the one that never steps."""

    def set_to(wall, boottime):
        monkeypatch.setattr(type(system_clock), "now", lambda _self: wall)
        monkeypatch.setattr(type(system_clock), "boottime", lambda _self: boottime)

    return set_to


def test_until_it_is_heard_the_clock_of_redis_is_the_wall_clock(host):
    """Nobody starts a run before Redis has answered."""
    host(1000.0, 10.0)
    clock = RedisClock()

    assert (clock.now(), clock.at(7.0)) == (1000.0, 997.0)


def test_the_clock_of_redis_goes_on_with_the_one_that_never_steps(host):
    """Whatever is done to the wall clock of this host."""
    host(1000.0, 10.0)
    clock = RedisClock()
    clock.hear(9.0, 1_030_000_000, 9.0)

    host(5000.0, 12.0)

    assert clock.now() == pytest.approx(1033.0)


def test_a_slow_answer_does_not_move_the_clock_of_redis(host):
    """As far as both can be true; a step moves it at the next look."""
    host(1000.0, 10.0)
    clock = RedisClock()
    clock.hear(10.0, 1_000_000_000, 10.0)
    clock.hear(10.0, 1_000_900_000, 11.0)
    assert clock.now() == pytest.approx(1000.0)

    clock.hear(10.0, 1_000_900_000, 10.5)
    assert clock.now() == pytest.approx(1000.4)

    clock.hear(10.0, 4600_000_000, 10.0)
    assert clock.now() == pytest.approx(4600.0)
