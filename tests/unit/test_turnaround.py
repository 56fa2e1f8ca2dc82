"""The time of a lane between two calls is measured if lanes are short; otherwise it is the usual time."""

from __future__ import annotations

import pytest

from rlm.core.expected import HICCUPS, MEASURED_TURNS, NEWEST_TURNS, TURNAROUND_SECONDS, Completed, Turnaround


def turn(turnaround, idle_seconds, at=100.0, calls=1):
    """Complete calls of 2 s, each answered at `at`, whose lanes were idle before for `idle_seconds`."""
    for _ in range(calls):
        turnaround.complete(Completed("T", "t", 2000.0, idle_ms=1000 * idle_seconds), at)


def short(since=90.0):
    turnaround = Turnaround()
    turnaround.look(since, short=True)
    return turnaround


def test_it_is_measured_from_so_many_calls_on():
    turnaround = short()
    turn(turnaround, 0.05, calls=MEASURED_TURNS - 1)
    before = turnaround.seconds
    turn(turnaround, 0.05)

    assert (before, turnaround.seconds) == (TURNAROUND_SECONDS, pytest.approx(0.05))


def test_the_newest_calls_decide():
    turnaround = short()
    turn(turnaround, 0.05, calls=NEWEST_TURNS)
    turn(turnaround, 0.01, calls=NEWEST_TURNS)

    assert turnaround.seconds == pytest.approx(0.01)


def test_hiccups_do_not_count():
    turnaround = short()
    turn(turnaround, 0.05, calls=MEASURED_TURNS)
    turn(turnaround, 3.0, calls=HICCUPS)

    assert turnaround.seconds == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("idle_seconds", "at"),
    [(0.0, 100.0), (0.05, 92.0), (8.5, 100.0)],
    ids=["the first call of a lane", "turned before lanes were short", "idle since before lanes were short"],
)
def test_a_lane_that_had_nothing_to_do_says_nothing(idle_seconds, at):
    """Lanes have been short since 90."""
    turnaround = short()
    turn(turnaround, idle_seconds, at, calls=NEWEST_TURNS)

    assert turnaround.seconds == TURNAROUND_SECONDS


def test_once_slots_are_short_what_lanes_need_stays_as_it_was_measured():
    turnaround = short()
    turn(turnaround, 0.05, calls=MEASURED_TURNS)
    turnaround.look(101.0, short=False)
    turn(turnaround, 4.0, 105.0, calls=NEWEST_TURNS)
    turnaround.look(106.0, short=True)
    turn(turnaround, 4.0, 107.0, calls=NEWEST_TURNS)

    assert turnaround.seconds == pytest.approx(0.05)
