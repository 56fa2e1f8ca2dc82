"""If the counts of an open run are lost, its carried-over events are set so that its books balance."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.claims import Completion
from rlm.ledger.reading.books import books
from tests.store import steps


def test_the_books_of_a_run_without_counts_balance(store, token, running):
    """What is unsettled is counted as carried over."""
    run = running(3)
    store.client.delete(store.keys.tally(run.id))
    assert books(store).faults

    assert store.runs.restate(token, run.id, store.known_types)

    assert books(store).faults == []
    assert store.runs.tally(run.id)[f"carried:{steps.TYPE}"] == 3


def test_nothing_is_counted_below_zero(store, token, running):
    """What was settled is lost, so less was taken than is counted."""
    run = running(3)
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.1))
    store.client.hdel(store.keys.tally(run.id), f"completed:{steps.TYPE}")

    store.runs.restate(token, run.id, store.known_types)

    assert books(store).faults == []
    assert min(store.runs.tally(run.id).values()) == 0


def test_counts_that_are_right_stay(store, token, running):
    """Nothing is missing."""
    run = running(2)
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.1))
    before = {name: number for name, number in store.runs.tally(run.id).items() if number}

    store.runs.restate(token, run.id, store.known_types)

    assert {name: number for name, number in store.runs.tally(run.id).items() if number} == before


def test_a_run_that_is_closed_gets_none(store, token, running):
    """Its counts are in its record."""
    running(1)

    assert not store.runs.restate(token, "another run", store.known_types)


def test_a_deposed_conductor_states_nothing(store, token, running):
    """Its successor does."""
    run = running(1)

    with pytest.raises(FencedError):
        store.runs.restate(token - 1, run.id, store.known_types)
