"""A small computation of a record, the fullest period; and how the end of a run is reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.window import most_in_any
from rlm.delivery.run_end import _log_end
from tests.values import record_from

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

    _log_end(record_from(run_id="r1", state=state, counts=counts, failure=failure))

    (told,) = caplog.records
    assert (told.levelname, told.run_id, getattr(told, "alarm", None)) == (level, "r1", cause)
    assert ("no worker came up" in told.getMessage()) is (state == "failed")
