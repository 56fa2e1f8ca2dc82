"""Measured calls on a real server: followed while the run is open, and what earlier runs left."""

from __future__ import annotations

import msgspec
import pytest

from rlm.core.expected import MEASURED_CALLS, Expected, Measured
from rlm.core.trail import CallEnd
from rlm.ledger import Store, calls
from rlm.ledger.measures import Measuring, learned
from tests.store.ledgers import ENDPOINT, OVERFLOW, TYPE, called, open_run
from tests.values import replace

PAIR = (TYPE, ENDPOINT)


@pytest.fixture
def run_id(store):
    return open_run(store)


@pytest.fixture
def carry(store, run_id):
    """Complete calls of the run with these durations in seconds, then let `errors` fail temporarily."""

    def carry(seconds=(), errors=0, endpoint=ENDPOINT):
        for took in seconds:
            called(store, endpoint, took, run_id=run_id, seconds=took)
        for _ in range(errors):
            called(store, endpoint, 0.1, run_id=run_id, end=CallEnd.ERROR)
            store.client.hincrby(store.keys.tally, f"failing:{TYPE} {endpoint}", 1)

    return carry


def keep(store, **endpoints):
    """Let earlier runs have left so many milliseconds for each endpoint, with five failures."""
    kept = {(TYPE, name): Measured((value,) * MEASURED_CALLS, MEASURED_CALLS, 5) for name, value in endpoints.items()}
    store.client.hset(store.keys.measured, mapping=store.measures.encode(kept))


@pytest.mark.parametrize("size", [2, 10_000])
def test_an_open_run_is_followed_call_by_call(store, run_id, carry, monkeypatch, size):
    """Each look reads only what is new; the expectation stays the same object while nothing changes."""
    monkeypatch.setattr(calls, "SLICE", size)
    called(store, ago=60.0)  # of another run
    measuring = Measuring(store, run_id)
    assert (measuring.look(), measuring.expected) == ([], {})

    carry([0.3] * 5)
    assert [call.pair for call in measuring.look()] == [PAIR] * 5
    assert measuring.expected == {PAIR: Expected(0.3, 0.3)}
    assert measuring.answered_us.keys() == {ENDPOINT}

    before = measuring.expected
    carry([0.3])
    assert len(measuring.look()) == 1
    assert measuring.expected is before

    carry([1.2] * 10)
    carry([1.0] * 5, endpoint=OVERFLOW)
    measuring.look()
    assert measuring.expected == {PAIR: Expected(1.2, 1.2), (TYPE, OVERFLOW): Expected(1.0, 1.0)}
    assert before == {PAIR: Expected(0.3, 0.3)}


def test_an_endpoint_is_down_if_all_its_calls_failed(store, run_id, carry):
    """More than one of them, and until it answers."""
    measuring = Measuring(store, run_id)

    def down():
        measuring.look()
        return measuring.down

    carry(errors=1)
    assert down() == set()
    carry(errors=1)
    assert down() == {ENDPOINT}
    carry([0.1])
    assert down() == set()


def test_a_successor_follows_the_run_from_its_beginning(store, run_id, carry):
    """What was measured before the conductor changed counts as well."""
    first = Measuring(store, run_id)
    carry([0.3] * 5, errors=20)
    first.look()

    second = Measuring(store, run_id)
    second.look()

    assert second.expected == first.expected == {PAIR: Expected(0.3, 0.3, 0.5)}


def test_what_is_kept_is_expected_until_the_run_knows_better(store, run_id, carry, types):
    """At once when it opens, and for the endpoints that it has not called yet."""
    keep(store, **{ENDPOINT: 200.0, OVERFLOW: 400.0})
    assert learned(store, types) == {PAIR: Expected(0.2, 0.2, 0.2), (TYPE, OVERFLOW): Expected(0.4, 0.4, 0.2)}
    measuring = Measuring(store, run_id)

    carry([0.25] * 4)
    measuring.look()
    assert (measuring.expected[PAIR].seconds, measuring.expected[TYPE, OVERFLOW].seconds) == (0.2, 0.4)

    carry([0.25])
    measuring.look()
    assert (measuring.expected[PAIR].seconds, measuring.expected[TYPE, OVERFLOW].seconds) == (0.25, 0.4)


def test_calls_of_what_is_not_configured_are_passed_over(store, run_id, carry):
    """A worker of an older file may still report some."""
    measuring = Measuring(store, run_id)
    carry([0.1] * 5, endpoint="gone", errors=1)

    measuring.look()

    assert measuring.expected == {}


def test_a_renamed_endpoint_keeps_what_was_measured(store):
    """It goes by the URL; one that left the file is not told of, and is remembered should it come back."""
    keep(store, **{ENDPOINT: 200.0})
    endpoints = dict(store.settings.endpoints)
    endpoint = endpoints.pop(ENDPOINT)

    for renamed, kept in (({}, []), ({"new name": replace(endpoint, name="new name")}, [(TYPE, "new name")])):
        other = Store(replace(store.settings, endpoints={**endpoints, **renamed}), store.url)
        assert list(other.measures.kept()) == kept
        other.close()
    assert msgspec.to_builtins(store.measures.kept()[PAIR])["errors"] == 5
