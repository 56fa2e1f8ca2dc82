"""The two small sums of a record: the fullest period, and quantiles."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rlm.closing import most_in_any, quantile

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


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50).map(sorted), st.floats(0.01, 1.0))
def test_a_quantile_is_one_of_the_values_with_its_share_at_or_below(values, share):
    """Nearest rank: the smallest value at or below which `share` of them lie, to a tenth of a millisecond."""
    found = quantile(values, share)

    expected = next(one for rank, one in enumerate(values, 1) if rank >= math.ceil(share * len(values)))
    assert found == round(expected, 1)


def test_quantiles_of_a_few():
    """Examples that can be checked in the head."""
    assert quantile([], 0.5) == 0
    assert quantile([3.14159], 0.5) == 3.1
    assert [quantile(list(range(1, 101)), share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert quantile([1, 2], 0.5) == 1
    assert quantile([1, 2, 3], 0.5) == 2
