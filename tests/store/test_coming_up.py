"""How long workers take to start: recorded by the conductor, and used if no worker is ready."""

from __future__ import annotations

import pytest

from rlm.admin.planning import COMING_UP_SECONDS, START_SECONDS, plan_run, start_seconds
from rlm.core.clock import system_clock
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.plan.situation import Workload
from rlm.settings import load_settings

#: 10 calls go out at 0, 2.5, 5 and 7.5 s, each filling a little later than the limit allows, and take 0.2 s.
SHORT = """
[run]
window_seconds = 8
[types.A]
processing_seconds = 0.2
rate_limit = "5 per 2 second"
endpoints = [ { name = "a", url = "http://h/a" }, { name = "b", url = "http://h/b" } ]
"""


def test_it_is_taken_for_usual_where_it_was_never_measured(store):
    """A plan without workers does not promise a call at once."""
    assert store.processes.coming_up_seconds() is None
    assert start_seconds(store) == COMING_UP_SECONDS


def test_what_was_measured_is_averaged_with_what_was_known(store):
    """One slow start does not count for ever, nor does one quick one."""
    for seconds in (6.0, 2.0):
        store.processes.note_coming_up(seconds)

    assert start_seconds(store) == pytest.approx(4.0)


def test_where_a_worker_is_ready_nothing_is_waited_for(store):
    """A message travels, that is all."""
    store.processes.note_coming_up(6.0)
    store.processes.announce(Role.WORKER, Process("w", 1, "host", system_clock.now(), WorkerState.READY, 5))

    assert start_seconds(store) == START_SECONDS


def test_a_quick_start_is_taken_as_it_was_measured(store):
    """It is not made longer than the latest first call of a worker that is ready."""
    store.processes.note_coming_up(0.23)
    assert start_seconds(store) == pytest.approx(0.23)
    for _ in range(10):
        store.processes.note_coming_up(0.01)
    assert start_seconds(store) == START_SECONDS


def test_a_short_window_has_its_last_filling(tmp_path):
    """The start that is assumed leaves room for it; one that leaves less than 20 ms for answers promises none."""
    path = tmp_path / "rlm.toml"
    path.write_text(SHORT)
    settings = load_settings(path, {})

    def left_over(start):
        return plan_run(settings, Workload({"A": 41}, settings.event_types), gone_seconds=start).expected_leftover

    assert [left_over(start) for start in (START_SECONDS, 0.22, 0.28)] == [1, 1, 11]
