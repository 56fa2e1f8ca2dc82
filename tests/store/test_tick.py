"""A run counts from its tick."""

from __future__ import annotations

from rlm.core.clock import system_clock
from rlm.core.run import Trigger
from scheduler.conductor import open_run
from tests.store import looks


def test_a_run_counts_from_its_tick_however_late_it_opens(store, token):
    """Its deadline is a window after that, by the clock of this host as by that of Redis."""
    window_seconds = store.settings.run.window_seconds
    tick = system_clock.now() - 7.0

    run_id = open_run(store, token, Trigger.SCHEDULE, tick)

    run = store.runs.current()
    assert (run.id, run.started_at, run.deadline) == (run_id, tick, tick + window_seconds)
    left_seconds = (run.deadline_us - looks.redis_us(store)) / 1_000_000
    assert window_seconds - 9.0 < left_seconds <= window_seconds - 7.0 + 0.01
