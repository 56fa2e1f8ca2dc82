"""Ticks: which one is due, and when APScheduler fires, whatever the clocks do."""

from __future__ import annotations

import pytest

from rlm.core.clock import system_clock
from scheduler.service import is_served, last_due, start_clock
from tests.each import each


@pytest.mark.parametrize(("now", "due"), [(360.0, 360.0), (361.5, 360.0), (539.9, 360.0), (0.5, 0.0)])
def test_a_late_tick_is_that_of_the_last_multiple(now, due):
    """Ticks lie on multiples of the period, however late somebody looks."""
    assert last_due(now, 180.0) == due


@each(
    ("last", "now", "served"),
    [
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


@pytest.mark.parametrize("ahead_seconds", [0.0, 30.0, -30.0, 365 * 86_400.0])
def test_it_fires_at_the_ticks_of_redis(ahead_seconds):
    """Whatever the clock of this host says."""
    clock = start_clock(180.0, lambda: system_clock.now() + ahead_seconds, lambda: None)
    try:
        (job,) = clock.get_jobs()
        fires = job.next_run_time.timestamp()
        after = job.trigger.get_next_fire_time(job.next_run_time, job.next_run_time).timestamp()
    finally:
        clock.shutdown(wait=False)

    assert 0 < fires - system_clock.now() <= 180.0
    off = [(moment + ahead_seconds + 90.0) % 180.0 - 90.0 for moment in (fires, after)]
    assert off == pytest.approx([0, 0], abs=0.01)
