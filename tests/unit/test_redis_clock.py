"""The clock of Redis as a process knows it: a slow answer and a drift are followed, a step is noticed once."""

from __future__ import annotations

import pytest

from rlm.core.clock import system_clock
from rlm.ledger.values import RedisClock
from tests.each import each

GUARD_SECONDS = 0.5


@pytest.fixture
def host(monkeypatch):
    """Set the clocks of this host: the wall clock, and the one that never steps."""

    def set_to(wall, monotonic):
        monkeypatch.setattr(type(system_clock), "now", lambda _self: wall)
        monkeypatch.setattr(type(system_clock), "monotonic", lambda _self: monotonic)

    return set_to


def hear(clock, at, redis, took=0.0, epoch=""):
    clock.hear(at, round(redis * 1_000_000), at + took, epoch)


@each("share", [0.003, -0.003, 0.0005])
def test_a_clock_that_drifts_is_followed(host, share):
    """Over a day, looked at every two seconds."""
    host(0.0, 0.0)
    clock = RedisClock(GUARD_SECONDS)
    for at in range(0, 86_400, 2):
        hear(clock, at, 1000.0 + at * (1.0 + share), took=0.001)

    assert clock.doubts[1] == 0
    host(0.0, at)
    assert clock.now() == pytest.approx(1000.0 + at * (1.0 + share), abs=0.02)


@each("step", [0.6, -0.6, 3600.0, -86_400.0])
def test_a_jump_beyond_the_guard_is_a_step_once(host, step):
    """It is said until everybody knows of it, and the clock is right at once."""
    host(1000.0, 10.0)
    clock = RedisClock(GUARD_SECONDS)
    hear(clock, 10.0, 1000.0, took=0.001)
    hear(clock, 11.0, 1001.0 + step, took=0.001)
    hear(clock, 12.0, 1002.0 + step, took=0.001)

    assert clock.doubts[1] == pytest.approx(step * 1_000_000, abs=2000)
    host(0.0, 12.0)
    assert clock.now() == pytest.approx(1002.0 + step, abs=0.001)

    hear(clock, 13.0, 1003.0 + step, took=0.001, epoch="2")

    assert clock.doubts == ("2", 0)


def test_a_step_that_is_heard_of_with_a_new_epoch_is_known(host):
    """Another process has told of it; only the next one is news."""
    host(1000.0, 10.0)
    clock = RedisClock(GUARD_SECONDS)
    hear(clock, 10.0, 1000.0, epoch="1")
    hear(clock, 11.0, 1006.0, epoch="2")
    assert clock.doubts == ("2", 0)

    hear(clock, 12.0, 1014.0, epoch="2")
    assert clock.doubts == ("2", 7_000_000)


def test_an_answer_from_before_a_step_was_noticed_is_left_out(host):
    """Several lanes ask at once, and their answers may be read in another order."""
    host(1000.0, 10.0)
    clock = RedisClock(GUARD_SECONDS)
    hear(clock, 10.0, 1000.0)
    hear(clock, 11.0, 1006.0, took=0.1)
    hear(clock, 11.0, 1001.0, took=0.2)

    assert clock.doubts[1] == pytest.approx(5_000_000, abs=100_000)
    host(0.0, 11.2)
    assert clock.now() == pytest.approx(1006.15, abs=0.1)


def test_a_step_that_a_slow_answer_hides_is_seen_in_the_next(host):
    """An answer that took longer than the step cannot show it."""
    host(1000.0, 10.0)
    clock = RedisClock(GUARD_SECONDS)
    hear(clock, 10.0, 1000.0)
    hear(clock, 11.0, 1003.0, took=3.0)  # the clock was set two seconds ahead while this was asked
    assert clock.doubts[1] == 0

    hear(clock, 15.0, 1007.0)

    assert clock.doubts[1] == pytest.approx(2_000_000, abs=2000)
