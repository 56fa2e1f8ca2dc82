"""Which events of a type wait, by priority and age."""

from __future__ import annotations

import pytest

from rlm.plan.sacrifice import Ranks, sacrifice


def test_the_lowest_priority_waits_first():
    """Of 40 that do not fit, all 30 of priority 1, and 10 of the next."""
    found = sacrifice(40, Ranks(new={5: 370, 1: 30}))

    assert found.by_priority == {1: 30, 5: 10}
    assert list(found.by_priority) == [1, 5]
    assert found.whole == {1}
    assert found.carried == 0


def test_within_a_priority_the_new_ones_wait_first():
    """What was carried over is older: it waits again only once all newcomers do."""
    ranks = Ranks(carried={5: 20}, new={5: 30})

    assert sacrifice(30, ranks).carried == 0
    assert sacrifice(31, ranks).carried == 1
    assert sacrifice(50, ranks).carried == 20


def test_a_low_priority_waits_though_it_was_carried_over():
    """Priority goes before age: a carried event of priority 1 waits behind a new one of priority 5."""
    found = sacrifice(10, Ranks(carried={1: 10}, new={5: 50}))

    assert found.by_priority == {1: 10}
    assert found.carried == 10


@pytest.mark.parametrize("number", [0, 60])
def test_none_and_all(number):
    """Where all fit nobody waits; where none do everybody does."""
    found = sacrifice(number, Ranks(carried={3: 10}, new={3: 20, 0: 30}))

    assert sum(found.by_priority.values()) == number
    assert found.whole == ({0, 3} if number else set())


def test_no_more_are_chosen_than_there_are():
    """While a run is open the counts are not of one instant, and may be short."""
    assert sacrifice(5, Ranks(new={5: 3})).by_priority == {5: 3}
