"""Steps of the clock of Redis, distinguished from slow answers and from a drifting clock."""

from __future__ import annotations

import pytest

from rlm.ledger.dataloss import TOLERANCE_SECONDS, StepGuard

#: How far the clock of Redis is from the monotonic one, seconds.
APART = 1_700_000_000.0


def look(guard, at, *, step=0.0, followed=0.0, way=0.001):
    """Ask at `at` for a clock that has stepped by `step`, of which `followed`; the answer takes `way` seconds."""
    redis_us = round((at + way / 2 + APART + step) * 1_000_000)
    return guard.check(at, redis_us, round(followed * 1_000_000), at + way)


@pytest.fixture
def guard():
    """A guard that has looked once, at 10 s."""
    guard = StepGuard()
    assert look(guard, 10.0) == 0
    return guard


def test_a_clock_that_runs_on_is_no_step(guard):
    """Looks far apart and close together find nothing while both clocks run alike."""
    assert [look(guard, at) for at in (10.05, 10.1, 3600.0, 3600.0005)] == [0, 0, 0, 0]


@pytest.mark.parametrize("step", [0.05, 1.0, 3600.0, -0.05, -1.0, -3600.0])
def test_a_step_is_found_with_its_size_until_it_is_followed(guard, step):
    """As exactly as the answers' ways allow."""
    found = look(guard, 10.05, step=step)

    assert found == pytest.approx(step, abs=0.003)
    assert (found > 0) == (step > 0)

    assert look(guard, 10.1, step=step) == pytest.approx(step, abs=0.003)
    assert look(guard, 10.15, step=step, followed=found) == 0


@pytest.mark.parametrize("step", [0.05, 3600.0, -3600.0])
def test_a_step_from_before_the_first_look_is_none_once_another_follows_it(step):
    """A standby that starts between a step and its follower knows the new time alone; a later step it does find."""
    standby = StepGuard()
    assert look(standby, 10.0, step=step) == 0

    assert look(standby, 10.1, step=step, followed=step) == 0

    assert look(standby, 10.2, step=step + 7.0, followed=step) == pytest.approx(7.0, abs=0.003)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_slow_answer_is_no_step(guard, place):
    """An answer that took a second says nothing of the clock, wherever on its way it was read; nor does the next."""
    slow = guard.check(11.0, round((11.0 + place + APART) * 1_000_000), 0, 12.0)

    assert slow == 0
    assert look(guard, 12.1) == 0


def test_a_clock_that_is_slewed_is_no_step(guard):
    """A clock that is 0.5 ms a second fast drifts by less than the tolerance between two looks, for ever."""
    drift = 0.0005

    assert [look(guard, 10.0 + second, step=drift * second) for second in range(1, 100)] == [0] * 99
    assert drift < TOLERANCE_SECONDS


def test_a_step_that_a_slow_answer_hides_is_found_by_the_next(guard):
    """What was known before it is not forgotten: a slow answer says little, and takes nothing away."""
    assert guard.check(11.0, round((12.0 + APART + 2.0) * 1_000_000), 0, 15.0) == 0

    assert look(guard, 15.1, step=2.0) == pytest.approx(2.0, abs=0.01)


def test_a_clock_that_runs_away_is_a_step_once_it_adds_up(guard):
    """One that is 5 % fast gains less between two looks than is borne, and not for long."""
    looks = [look(guard, 10.0 + number * 0.05, step=number * 0.05 * 0.05) for number in range(1, 20)]

    assert any(looks)
