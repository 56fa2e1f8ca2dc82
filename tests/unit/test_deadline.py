"""When a run ends by the clock of this host, as the turns of a worker show it."""

from __future__ import annotations

import pytest

from rlm.delivery.deadline import DeadlineEstimate


@pytest.fixture
def estimate():
    """The run ends at 100.0; a turn that did not wait has shown it."""
    found = DeadlineEstimate()
    found.refine("run", asked_at=40.0, answered_at=40.01, remaining_seconds=60.0)
    return found


def test_the_turn_that_waited_least_counts(estimate):
    """Redis read its clock at the end of the wait, so counted from the question the deadline is too early."""
    assert estimate.refine("run", asked_at=50.0, answered_at=50.3, remaining_seconds=49.75) == 100.0


def test_a_later_turn_that_waited_less_counts_from_then_on():
    """The first turn of the run waited."""
    estimate = DeadlineEstimate()

    assert estimate.refine("run", asked_at=40.0, answered_at=40.3, remaining_seconds=59.75) == 99.75
    assert estimate.refine("run", asked_at=50.0, answered_at=50.01, remaining_seconds=50.0) == 100.0
    assert estimate.refine("run", asked_at=60.0, answered_at=60.3, remaining_seconds=39.75) == 100.0


def test_what_a_turn_excludes_is_forgotten(estimate):
    """The clock of Redis was set forward by 5 s: no call may last until the old deadline."""
    assert estimate.refine("run", asked_at=50.0, answered_at=50.3, remaining_seconds=45.0) == 95.0


def test_each_run_has_its_own_deadline(estimate):
    """Nothing that another run has shown counts."""
    assert estimate.refine("next", asked_at=50.0, answered_at=50.3, remaining_seconds=49.75) == 99.75
