"""The books of an instant: they balance in every state of a run, and report what is wrong if they do not."""

from __future__ import annotations

import pytest

from rlm.core.item import Counts
from rlm.delivery import run_end
from rlm.ledger.books import books
from tests.store import looks, steps
from tests.store.ledgers import OTHER_TYPE, TYPE, open_run, put
from tests.values import record_from

#: One event in each place.
PLACES = ("ready", "inflight", "backoff", "spent")


def count(store, **tally):
    for what, number in tally.items():
        store.client.hset(store.keys.tally, f"{what}:{TYPE}", number)


def test_events_are_counted_where_they_are(store):
    """By type, which follows the last colon of their ids; those that spent their attempts apart."""
    for number, place in enumerate(PLACES):
        put(store, f"i:{number}:{TYPE}", place)
    put(store, f"i9:{OTHER_TYPE}", "backoff")

    found = store.ledger.count([TYPE, OTHER_TYPE, "NONE"])

    assert found == {TYPE: Counts(1, 1, 1, 1), OTHER_TYPE: Counts(backing_off=1), "NONE": Counts()}
    assert (found[TYPE].unsettled, found[TYPE].open) == (4, 3)


def test_the_books_balance_wherever_events_are(store):
    """One event in each state; what came is what is accounted for."""
    run_id = open_run(store, staged="1")
    for number, place in enumerate(PLACES):
        put(store, f"i{number}:{TYPE}", place)
    count(store, taken=5, carried=1, completed=1, failed=1)

    read = books(store)

    assert (read.run.id, read.unsettled, read.faults()) == (run_id, 4, [])


@pytest.mark.parametrize("taken", [3, 1])
def test_an_event_that_is_lost_or_stands_twice_is_noticed(store, taken):
    """The sentence has all numbers."""
    open_run(store)
    put(store, f"i1:{TYPE}", "ready")
    put(store, f"i2:{TYPE}", "ready")
    count(store, taken=taken)

    (told,) = books(store).faults()

    assert told.startswith(f"{TYPE}: {taken} taken and 0 carried over, but 0 completed")
    assert told.endswith("2 unsettled")


@pytest.mark.parametrize(("ready", "tally", "faults"), [(2, {}, 0), (3, {}, 1), (4, {"taken": 3, "dropped": 1}, 0)])
def test_leftovers_of_a_record_are_in_the_ledger(store, ready, tally, faults):
    """And letters retried since, without leftovers dropped since."""
    record = record_from(run_id="r1", by_type={TYPE: {"leftover": 2}})
    for number in range(ready):
        put(store, f"i{number}:{TYPE}", "ready")
    count(store, **tally)

    assert len(books(store).faults(record)) == faults


@pytest.fixture
def left(store, token):
    """Three leftovers of a closed run; its record."""
    steps.push(store, *steps.items(3, steps.TYPE))
    run = steps.start_run(store, token)
    steps.finish(store, token, run)
    return run_end.close_run(store, run.id)


def test_the_books_balance_after_a_drop(store, token, left):
    """What the last run left over is what is pending and what was dropped; the next run carries the rest over."""
    store.ledger.drop(steps.event_ids(2))

    assert books(store).faults(left) == []
    steps.start_run(store, token)
    assert looks.tally(store) == {f"carried:{steps.TYPE}": 1}
    assert books(store).faults() == []


def test_nothing_is_dropped_while_a_run_is_open(store, token, left):
    """It has them in its books, pending or in flight."""
    steps.start_run(store, token)
    steps.claim(store)

    with looks.nothing_changes(store):
        assert store.ledger.drop(steps.event_ids(3)) == (0, True)
