"""When APScheduler fires, whatever the clocks do: a leap of years takes no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rlm.core.clock import system_clock
from scheduler.redis_clock import RedisClock
from scheduler.service import TickTrigger

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
