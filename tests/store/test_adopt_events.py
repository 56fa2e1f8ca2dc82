"""Events that lost their place in the ledger are found again by their hashes, once each, and nothing else is."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.claims import Completion
from tests.store import looks, steps


def test_events_that_are_nowhere_are_pending_again(store, token, running):
    """In their order; those that are somewhere stay there."""
    run = running(3)
    claim = steps.claim_next(store, token, run)
    before = looks.pending(store)
    store.client.delete(store.keys.pending(steps.TYPE))

    assert store.recovery.adopt(token, steps.TYPE) == 2

    assert looks.pending(store) == before
    assert looks.counts(store).inflight == 1
    assert claim.event_id not in looks.pending(store)


def test_an_answer_to_what_was_adopted_changes_nothing(store, token, running):
    """It is sent again under the same key; its worker's claim is void."""
    run = running(1)
    claim = steps.claim_next(store, token, run)
    store.client.delete(store.keys.inflight(steps.TYPE))

    assert store.recovery.adopt(token, steps.TYPE) == 1

    assert not store.turns.complete(Completion(claim, steps.ENDPOINT, 0.1))
    assert looks.counts(store).pending == 1


def test_what_is_settled_or_no_event_is_left_alone(store, token, running):
    """A completed event is remembered for its duplicates, and is not sent again."""
    run = running(1)
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.1))
    store.client.set(store.keys.event(f"ghost:{steps.TYPE}"), "another type")

    assert store.recovery.adopt(token, steps.TYPE) == 0


def test_twice_is_once(store, token, running):
    """The second time nothing is found."""
    running(2)
    store.client.delete(store.keys.pending(steps.TYPE))

    assert [store.recovery.adopt(token, steps.TYPE) for _ in range(2)] == [2, 0]


def test_a_deposed_conductor_adopts_nothing(store, token, running):
    """Its successor does."""
    running(1)
    store.client.delete(store.keys.pending(steps.TYPE))

    with pytest.raises(FencedError):
        store.recovery.adopt(token - 1, steps.TYPE)
