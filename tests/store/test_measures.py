"""Measured calls on a real server: followed while the run is open, merged when it closes, used by both."""

from __future__ import annotations

import itertools

import pytest
import redis

from rlm.core.expected import MEASURED_CALLS, Expected, Measured
from rlm.core.item import Reason
from rlm.core.tally import histograms
from rlm.delivery import run_end
from rlm.ledger import Store, measures, scripts
from rlm.ledger.claims import Completion
from rlm.ledger.measures import Measuring, Totals, learned
from rlm.ledger.reading import books
from tests.store import looks, steps
from tests.values import replace

PAIR = (steps.TYPE, steps.ENDPOINT)
OVERFLOW = (steps.TYPE, steps.OVERFLOW)


@pytest.fixture
def running(store, token):
    """Open a run with `number` pending events of new items."""
    numbers = itertools.count(1, 1000)

    def start(number):
        steps.push(store, *steps.items(number, steps.TYPE, first=next(numbers)))
        return steps.start_run(store, token)

    return start


@pytest.fixture
def carry(store, token):
    """Complete calls of a run with these durations in seconds, then let `errors` fail temporarily."""

    def carry(run, seconds=(), errors=0, endpoint=steps.ENDPOINT):
        for took in seconds:
            assert store.turns.complete(Completion(steps.claim_next(store, token, run), endpoint, took))
        for _ in range(errors):
            assert store.ledger.retry(steps.claim_next(store, token, run), endpoint, 0)
            assert store.recovery.promote([steps.TYPE], looks.redis_us(store))

    return carry


def close(store, token, run):
    steps.finish(store, token, run)
    return run_end.close_run(store, run.id)


def test_a_run_leaves_its_durations_and_failures(store, token, running, carry):
    """By type and endpoint; what was throttled, rejected, cut or not sent is neither."""
    run = running(7)
    carry(run, [0.1, 0.3], errors=2)
    carry(run, [0.2], endpoint=steps.OVERFLOW)
    store.ledger.throttle(steps.claim_next(store, token, run), steps.ENDPOINT)
    store.ledger.fail(steps.claim_next(store, token, run), Reason.REJECTED, "no", steps.ENDPOINT)
    store.ledger.retry(steps.claim_next(store, token, run), steps.ENDPOINT, 60, cut=True)
    store.ledger.give_back(steps.claim_next(store, token, run))

    record = close(store, token, run)

    assert store.measures.kept() == {PAIR: Measured((100.0, 300.0), 2, 2), OVERFLOW: Measured((200.0,), 1, 0)}
    entry = record.by_endpoint[steps.ENDPOINT]
    assert (entry.completed, entry.errors, entry.throttled) == (2, 4, 1)
    assert (entry.p50_ms, entry.p95_ms) == (100.0, 300.0)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_many_calls_are_read_in_slices(store, token, running, carry, monkeypatch, number):
    """A list of a million would hold Redis up: no reply has more than a slice, and all are read, each once."""
    for module in (scripts, measures, books):
        monkeypatch.setattr(module, "SLICE", 2)
    replies = []
    parse = redis.Redis.parse_response

    def noted(client, connection, command, **options):
        reply = parse(client, connection, command, **options)
        replies.extend([len(reply)] if command == "LRANGE" else [])
        return reply

    run = running(number)
    carry(run, [one / 10 for one in range(1, number + 1)])
    expected = [100.0 * one for one in range(1, number + 1)]
    monkeypatch.setattr(redis.Redis, "parse_response", noted)

    assert [one.milliseconds for one in store.measures.completed(run.id)] == pytest.approx(expected)
    assert [one.milliseconds for one in store.measures.follow(run.id, 0)[0]] == pytest.approx(expected)
    assert histograms(Totals(store).look(), "call")[steps.ENDPOINT].number == number
    close(store, token, run)
    assert store.measures.kept()[PAIR].milliseconds == pytest.approx(expected)
    assert len(replies) >= 2
    assert max(replies) <= 3  # the last one again, to know that it is still there


def test_the_next_run_adds_to_it(store, token, running, carry):
    """Durations follow one another, what was counted before weighs half; who was not called stays as it was."""
    first = running(5)
    carry(first, [0.1] * 4)
    close(store, token, first)
    second = running(5)
    carry(second, [0.2], errors=3)
    close(store, token, second)
    third = running(1)
    close(store, token, third)

    assert store.measures.kept() == {PAIR: Measured((100.0,) * 4 + (200.0,), 3, 3)}


def test_a_renamed_endpoint_keeps_what_was_measured(store, token, running, carry):
    """It goes by the URL; one that left the file is not told of, and is remembered should it come back."""
    run = running(1)
    carry(run, [0.1])
    close(store, token, run)
    endpoints = dict(store.settings.endpoints)
    endpoint = endpoints.pop(steps.ENDPOINT)

    for renamed, kept in (({}, []), ({"new name": replace(endpoint, name="new name")}, [(steps.TYPE, "new name")])):
        other = Store(replace(store.settings, endpoints={**endpoints, **renamed}), store.url)
        assert list(other.measures.kept()) == kept
        other.close()
    assert list(store.measures.kept()) == [PAIR]


def test_a_run_that_called_an_endpoint_since_taken_out_closes(store, token, running, carry):
    """Whoever closes it may have a newer file; nothing is kept of what that does not have."""
    run = running(2)
    carry(run, [0.1])
    carry(run, [0.1], endpoint="gone")

    assert close(store, token, run)

    assert list(store.measures.kept()) == [PAIR]


def test_enough_calls_of_earlier_runs_are_learned_from(store, token, types, running, carry):
    """Median, 19 of 20, and the part that failed; too few calls tell nothing."""
    run = running(2 * MEASURED_CALLS)
    carry(run, [index / 100 for index in range(1, MEASURED_CALLS + 1)], errors=5)
    carry(run, [0.1] * (MEASURED_CALLS - 1), endpoint=steps.OVERFLOW)
    assert learned(store, types) == {}
    close(store, token, run)

    assert learned(store, types) == {PAIR: Expected(0.1, 0.19, 0.2)}


def test_an_open_run_is_followed_call_by_call(store, running, carry):
    """Each look reads only what is new; the expectation stays the same object while nothing changes."""
    run = running(30)
    measuring = Measuring(store, run.id)
    measuring.look()
    assert measuring.expected == {}

    carry(run, [0.3] * 5)
    calls, failing = store.measures.follow(run.id, 3)
    assert ([call[:3] for call in calls], failing) == ([(*PAIR, 300.0)] * 2, {})
    measuring.look()
    assert measuring.expected == {PAIR: Expected(0.3, 0.3)}

    before = measuring.expected
    measuring.look()
    carry(run, [0.3])
    measuring.look()
    assert measuring.expected is before

    carry(run, [1.2, 1.2], endpoint=steps.ENDPOINT)
    carry(run, [1.0] * 5, endpoint=steps.OVERFLOW)
    measuring.look()
    assert measuring.expected == {PAIR: Expected(1.2, 1.2), OVERFLOW: Expected(1.0, 1.0)}
    assert before == {PAIR: Expected(0.3, 0.3)}


def test_an_endpoint_is_down_if_all_its_calls_failed(store, running, carry):
    """More than one of them, and until it answers."""
    run = running(10)
    measuring = Measuring(store, run.id)

    def down():
        measuring.look()
        return measuring.down

    carry(run, [], errors=1)
    assert down() == set()
    carry(run, [], errors=1)
    assert down() == {steps.ENDPOINT}
    carry(run, [0.1])
    assert down() == set()


def test_a_successor_follows_the_run_from_its_beginning(store, running, carry):
    """What was measured before the conductor changed counts as well."""
    run = running(30)
    first = Measuring(store, run.id)
    carry(run, [0.3] * 5, errors=20)
    first.look()

    second = Measuring(store, run.id)
    second.look()

    assert second.expected == first.expected == {PAIR: Expected(0.3, 0.3, 0.5)}


def test_what_is_kept_is_expected_until_the_run_knows_better(store, token, running, carry):
    """At once when it opens, and for the endpoints that it has not called yet."""
    run = running(2 * MEASURED_CALLS)
    carry(run, [0.2] * MEASURED_CALLS)
    carry(run, [0.4] * MEASURED_CALLS, endpoint=steps.OVERFLOW)
    close(store, token, run)
    run = running(10)
    measuring = Measuring(store, run.id)
    kept = {PAIR: Expected(0.2, 0.2), OVERFLOW: Expected(0.4, 0.4)}
    assert measuring.expected == kept

    carry(run, [0.25] * 4)
    measuring.look()
    assert measuring.expected == kept

    carry(run, [0.25])
    measuring.look()
    assert measuring.expected == {**kept, PAIR: Expected(0.25, 0.25)}


def test_calls_of_what_is_not_configured_are_passed_over(store, running, carry):
    """A worker of an older file may still report some."""
    run = running(6)
    measuring = Measuring(store, run.id)
    carry(run, [0.1] * 5, endpoint="gone", errors=1)

    measuring.look()

    assert measuring.expected == {}
