"""count_slots: the number of a window's slots younger than a period; it takes none and reads no list."""

from __future__ import annotations

from tests.store import looks
from tests.store.windows import make_budget, make_endpoint, pass_time, set_clock_back, stamps, take

API = make_endpoint("5 per 10 seconds; 100/hour")


def test_without_a_slot_there_is_nothing_to_count(store):
    """No window is an empty one."""
    assert store.windows.used([API]) == {"api": [0, 0]}


def test_each_rule_counts_its_own_period(store):
    """Three calls a minute ago are of this hour, not of these ten seconds; and the guard is no part of a period."""
    take(store, API, 3)
    pass_time(store, API, 60.0)
    take(store, API, 2)

    assert store.windows.used([API]) == {"api": [2, 5]}


def test_a_call_is_counted_until_its_period_is_over(store):
    """Half-open: one exactly a period old is not of it any more, whatever the guard says of the next one."""
    take(store, API, 1)
    pass_time(store, API, 9.0)
    assert store.windows.used([API])["api"] == [1, 1]

    pass_time(store, API, 1.0)
    assert store.windows.used([API])["api"] == [0, 1]


def test_more_than_a_limit_that_was_lowered_are_all_counted(store):
    """What was sent was sent."""
    take(store, API, 5)

    assert store.windows.used([make_endpoint("2 per 10 seconds")]) == {"api": [5]}


def test_windows_are_counted_each_by_itself(store):
    """A budget's slots are those of its endpoints together."""
    budget = make_budget("9/minute")
    one, two = (make_endpoint("5/minute", name, budget=budget) for name in ("one", "two"))
    take(store, one, 3)
    take(store, two, 1)

    assert store.windows.used([two, budget, one]) == {"two": [1], "account": [4], "one": [3]}


def test_a_clock_that_was_set_back_leaves_the_slots_counted(store):
    """They seem to be of the future."""
    take(store, API, 3)
    set_clock_back(store, API, 3600.0)

    assert store.windows.used([API]) == {"api": [3, 3]}


def test_any_span_may_be_asked_for_and_nothing_changes(store):
    """Of a long window as of a short one."""
    take(store, make_endpoint("1000/minute"), 500)
    before = stamps(store, API)

    with looks.nothing_changes(store):
        assert store.windows.count([(API, [0.0, 600.0])]) == [0, 500]

    assert stamps(store, API) == before
