"""A small sum of a record: the fullest period."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.closing import most_in_any

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
