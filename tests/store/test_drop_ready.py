"""Dropping a leftover: it is removed for good, its id forgotten, and the books still balance."""

from __future__ import annotations

import pytest

from rlm.delivery import run_end
from rlm.ledger.books import books, miscounted
from tests.store import looks, steps


@pytest.fixture
def left(store, token):
    """Three leftovers of a closed run; its record."""
    steps.push(store, *steps.items(3, steps.TYPE))
    run = steps.start_run(store, token)
    steps.finish(store, token, run)
    return run_end.close_run(store, run.id)


def test_the_books_balance_after_a_drop(store, token, left):
    """What the last run left over is what is pending and what was dropped; the next run carries the rest over."""
    store.recovery.drop(steps.event_ids(2))

    assert books(store).faults == []
    assert miscounted(store, books(store), left) == []
    steps.start_run(store, token)
    assert looks.tally(store) == {f"carried:{steps.TYPE}": 1}
    assert books(store).faults == []


def test_nothing_is_dropped_while_a_run_is_open(store, token, left):
    """It has them in its books, pending or in flight."""
    steps.start_run(store, token)
    steps.claim(store)

    with looks.nothing_changes(store):
        assert store.recovery.drop(steps.event_ids(3)) == (0, True)
