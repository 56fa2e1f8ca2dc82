"""When APScheduler fires, whatever the clocks do."""

from __future__ import annotations

import pytest

from rlm.core.clock import system_clock
from scheduler.service import start_clock


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
    assert off == pytest.approx([0, 0], abs=0.5)  # a busy machine
