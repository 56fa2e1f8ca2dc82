"""Dropping a leftover: it is removed for good, its id forgotten, and the books still balance."""

from __future__ import annotations

import pytest

from rlm.delivery import run_end
from rlm.ledger.reading.books import books, miscounted
from tests.store import looks, steps


@pytest.fixture
def left(store, token):
    """Three leftovers of a closed run; its record."""
    steps.push(store, *steps.items(3, steps.TYPE))
    run = steps.start_run(store, token)
    steps.finish(store, token, run)
    return run_end.close_run(store, run.id)


def test_a_leftover_is_gone_and_the_others_stay(store, left):
    """Neither pending nor known any more."""
    assert store.recovery.drop([steps.event_id(2)]) == (1, False)

    assert looks.pending(store) == [steps.event_id(1), steps.event_id(3)]
    assert looks.event(store, steps.event_id(2)) == {}


def test_the_books_balance_after_a_drop(store, token, left):
    """What the last run left over is what is pending and what was dropped; the next run carries the rest over."""
    store.recovery.drop(steps.event_ids(2))

    assert books(store).faults == []
    assert miscounted(store, books(store), left) == []
    steps.start_run(store, token)
    assert looks.tally(store) == {f"carried:{steps.TYPE}": 1}
    assert books(store).faults == []


def test_what_is_missing_without_a_drop_is_still_a_fault(store, left):
    """One dropped by hand excuses no other."""
    store.recovery.drop([steps.event_id(1)])
    store.client.zrem(store.keys.ready(steps.TYPE), steps.event_id(2))

    (fault,) = miscounted(store, books(store), left)
    assert "2 left over" in fault
    assert "1 are pending" in fault


def test_drops_of_an_earlier_run_excuse_nothing_in_the_next(store, token, left):
    """They are counted anew."""
    store.recovery.drop([steps.event_id(1)])
    run = steps.start_run(store, token)
    steps.finish(store, token, run)
    record = run_end.close_run(store, run.id)
    assert miscounted(store, books(store), record) == []

    store.recovery.drop([steps.event_id(2)])

    assert miscounted(store, books(store), record) == []
    assert len(looks.pending(store)) == 1


def test_the_same_id_is_a_new_event_afterwards(store, token, left):
    """No duplicate."""
    store.recovery.drop([steps.event_id(1)])
    steps.push(store, steps.item("i1", steps.TYPE))

    steps.start_run(store, token)

    assert looks.tally(store) == {f"carried:{steps.TYPE}": 2, f"taken:{steps.TYPE}": 1}


def test_nothing_is_dropped_while_a_run_is_open(store, token, left):
    """It has them in its books, pending or in flight."""
    steps.start_run(store, token)
    steps.claim(store)

    with looks.nothing_changes(store):
        assert store.recovery.drop(steps.event_ids(3)) == (0, True)


def test_what_is_not_left_over_is_not_dropped(store, token, left):
    """A second time, an event nobody knows, one retried by hand: nothing changes."""
    store.recovery.drop([steps.event_id(1)])

    with looks.nothing_changes(store):
        assert store.recovery.drop([steps.event_id(1), steps.event_id(9)]) == (0, False)
