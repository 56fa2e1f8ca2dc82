"""What a run adds to the totals, and how histograms are read from them."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from rlm.core.expected import Completed
from rlm.core.tally import BOUNDS, histograms, observe, of_run
from tests.values import record_from

RECORD = {
    "state": "partial",
    "duration_seconds": 12.0,
    "by_type": {"T": {"leftover": 3}, "U": {"leftover": 0}},
    "plan": {"forecast_seconds": 10.0, "actual_seconds": 10.4},
}


@pytest.mark.parametrize("what", BOUNDS)
def test_what_is_as_long_as_a_bound_is_within_it(what):
    """As Prometheus has it: `le` is less or equal; what is longer than all bounds is in the last."""
    for bound in (*BOUNDS[what], 1e6):
        fields = Counter()
        observe(fields, what, bound)

        (found,) = histograms(fields, what).values()
        within = [one for one, number in found.at_most.items() if number]
        assert within == [one for one in (*BOUNDS[what], math.inf) if one >= bound]
        assert (found.number, found.seconds) == (1, bound)


def test_a_clock_that_was_set_back_takes_nothing_away():
    """A run that ended before it began, by the clock on the wall, lets no sum fall: that would look like a restart."""
    fields = Counter()

    observe(fields, "run", -2.0)

    assert histograms(fields, "run")[""].at_most[1] == 1
    assert histograms(fields, "run")[""].seconds == 0.0


def test_histograms_add_up_by_name():
    """Numbers are cumulative, seconds are the sum; another thing measured does not mix in."""
    calls = [Completed("T", "a", 40.0), Completed("T", "a", 1700.0), Completed("U", "b", 100.0)]

    record = record_from(**RECORD)
    found = histograms(of_run(record, calls[:1]) + of_run(record, calls[1:]), "call")

    assert set(found) == {"a", "b"}
    assert [found["a"].at_most[bound] for bound in (0.05, 1.5, 2, math.inf)] == [1, 1, 2, 2]
    assert found["a"].seconds == 1.74


def test_a_run_adds_its_state_its_leftovers_and_how_long_it_took():
    """Beside what its tally has."""
    added = of_run(record_from(**RECORD), [])

    assert (added["runs:partial"], added["leftover:T"], added["leftover:U"]) == (1, 3, 0)
    assert histograms(added, "run")[""].seconds == 12.0
