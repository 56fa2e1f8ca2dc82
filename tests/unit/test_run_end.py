"""A small computation of a record, the fullest period; and how the end of a run is reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.run import Run, State, Trigger
from rlm.core.window import most_in_any
from rlm.delivery.run_end import _is_as_before, _log_end
from tests.values import record_from, replace

STAMPS = st.lists(st.integers(0, 60), max_size=25).map(sorted)


@given(STAMPS, st.integers(1, 70))
def test_the_fullest_period_is_that_of_a_count_by_hand(stamps, span):
    """Wherever a period may begin, none holds more; half-open, so two calls a period apart are not in one."""
    by_hand = max((sum(begin <= one < begin + span for one in stamps) for begin in stamps), default=0)

    assert most_in_any(stamps, span) == by_hand


def test_nothing_is_in_any_period_of_nothing():
    """Without calls the fullest period is empty; at one instant all are in it."""
    assert most_in_any([], 10) == 0
    assert most_in_any([7, 7, 7], 1) == 3
    assert most_in_any([0, 10, 20], 10) == 1


@pytest.mark.parametrize(
    ("state", "level", "cause"),
    [
        ("completed", "INFO", None),
        ("cancelled", "INFO", None),
        ("partial", "WARNING", "leftovers"),
        ("failed", "ERROR", "run_failed"),
    ],
)
def test_the_end_of_a_run_is_told_as_loudly_as_it_matters(caplog, state, level, cause):
    """Leftovers are worth a look, but for who wanted the run to end; a run that failed needs somebody, and says why."""
    caplog.set_level("INFO")
    counts = {"taken": 3, "carried_over": 0, "completed": 1, "failed": 0, "leftover": 2}
    failure = "no worker came up" if state == "failed" else ""

    _log_end(record_from(run_id="r1", state=state, counts=counts, failure=failure), ())

    (told,) = caplog.records
    assert (told.levelname, told.run_id, getattr(told, "alarm", None)) == (level, "r1", cause)
    assert ("no worker came up" in told.getMessage()) is (state == "failed")


def test_a_late_run_that_could_do_nothing_does_not_repeat_the_alarm_of_the_one_before(caplog):
    """It was open for a tenth of a second, took nothing and called nobody: its leftovers are those of the other."""
    caplog.set_level("INFO")
    counts = {"taken": 0, "carried_over": 6, "completed": 0, "failed": 0, "leftover": 6}
    record = record_from(run_id="r2", state="partial", duration_seconds=30.0, counts=counts)
    on_time = Run("r2", State.FINISHING, Trigger.SCHEDULE, 0.0, 30.0, 30_000_000, 30.0, "")
    late = replace(on_time, late={"run_before": 29.9})

    for run in (on_time, late):
        _log_end(record, (), again=_is_as_before(run, record))
    _log_end(record, (), again=_is_as_before(late, replace(record, counts=replace(record.counts, taken=1))))

    assert [getattr(one, "alarm", None) for one in caplog.records] == ["leftovers", None, "leftovers"]
