"""Events in no set of the ledger are found between runs, and put back."""

from __future__ import annotations

import pytest

from scheduler.housekeeping import Housekeeper
from scheduler.office import Office
from tests.store import looks, steps
from tests.values import record_from


@pytest.fixture
def leftovers(store, token):
    """Five leftovers, with no run open."""
    steps.push(store, *steps.items(5, steps.TYPE))
    run = steps.start_run(store, token)
    steps.finish(store, token, run)
    assert store.runs.close(run.id, record_from(), store.runs.tally(), wanted=0) == 1
    return steps.event_ids(5)


def look_through(store):
    cursor, adopted = store.ledger.adopt(0)
    while cursor:
        cursor, more = store.ledger.adopt(cursor)
        adopted += more
    return adopted


def test_events_whose_set_was_deleted_are_put_back_in_their_order(store, leftovers):
    """Once: then they wait as before."""
    store.client.delete(store.keys.ready(steps.TYPE))

    assert sorted(look_through(store)) == sorted(leftovers)

    assert looks.pending(store) == leftovers
    assert look_through(store) == []


def test_a_housekeeper_looks_through_all_without_a_pause(store, token, leftovers):
    """However many keys there are: it says that there is more until it has seen them."""
    store.client.mset({f"{store.keys.prefix}other:{number}": "" for number in range(5000)})
    store.client.delete(store.keys.ready(steps.TYPE))
    store.leases.release(steps.CONDUCTOR)
    office = Office(store, None, allow_volatile=True)
    assert office.campaign()
    housekeeper = Housekeeper(office)

    while housekeeper.step():
        pass

    assert sorted(looks.pending(store)) == sorted(leftovers)


def test_none_is_put_back_that_is_somewhere_or_settled(store, leftovers):
    """In flight, backing off, or remembered without its item."""
    one, other, third, *_ = leftovers
    store.client.zrem(store.keys.ready(steps.TYPE), one, other, third)
    store.client.zadd(store.keys.due, {one: 1})
    store.client.zadd(store.keys.due, {f"later {other}": 1})
    store.client.hdel(store.keys.event(third), "item")
    store.client.set(store.keys.event("no event:X"), "of another type")

    assert look_through(store) == []


def test_an_open_run_is_left_alone(store, token, leftovers):
    """It counted what is ready when it opened."""
    steps.start_run(store, token)
    store.client.delete(store.keys.ready(steps.TYPE))

    assert look_through(store) == []
