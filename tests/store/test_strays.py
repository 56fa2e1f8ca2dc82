"""Strays: events in no set of the ledger are found between runs, and put back."""

from __future__ import annotations

import pytest

from rlm.ledger import strays
from rlm.ledger.strays import Strays
from tests.store import looks, steps
from tests.values import record_from


@pytest.fixture
def leftovers(store, token):
    """Five leftovers, with no run open."""
    steps.push(store, *steps.items(5, steps.TYPE))
    run = steps.start_run(store, token)
    steps.finish(store, token, run)
    assert store.runs.close(run.id, record_from(), wanted=0) == 1
    return steps.event_ids(5)


def look_through(store, find=None):
    find = find or Strays(store)
    find.look_soon()
    found = find.step()
    while find._cursor:
        found += find.step()
    return found


def test_events_whose_set_was_deleted_are_put_back_in_their_order(store, leftovers, monkeypatch):
    """However few are looked at in each step."""
    monkeypatch.setattr(strays, "KEYS_A_STEP", 2)
    store.client.delete(store.keys.ready(steps.TYPE))
    store.client.srem(store.keys.types, steps.TYPE)

    assert sorted(look_through(store)) == sorted(leftovers)

    assert looks.pending(store) == leftovers
    assert steps.TYPE in store.ledger.types()
    assert look_through(store) == []


def test_none_is_put_back_that_is_somewhere_or_settled(store, leftovers):
    """In flight, backing off, or remembered without its item."""
    one, other, third, *_ = leftovers
    ready = store.keys.ready(steps.TYPE)
    store.client.zrem(ready, one, other, third)
    store.client.zadd(store.keys.inflight, {one: 1})
    store.client.zadd(store.keys.backoff, {other: 1})
    store.client.hset(store.keys.event(third), "state", "completed")
    store.client.set(store.keys.event("no event:X"), "of another type")

    assert look_through(store) == []


def test_an_open_run_is_left_alone(store, token, leftovers):
    """It counted what is ready when it opened."""
    steps.start_run(store, token)
    store.client.delete(store.keys.ready(steps.TYPE))

    assert look_through(store) == []
