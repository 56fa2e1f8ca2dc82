"""fail_event: an event becomes a dead letter, by the worker that holds its claim."""

from __future__ import annotations

import pytest

from rlm.core.item import Reason
from tests.store import looks, losses, steps


@pytest.fixture
def run(running):
    return running(1)


@pytest.fixture
def claim(store, token, run):
    return steps.claim_next(store, token, run)


def fail(store, claim, endpoint=steps.ENDPOINT, reason=Reason.REJECTED):
    return store.ledger.fail(claim, reason, "answered 404", endpoint)


def test_a_failed_event_is_a_dead_letter(store, run, claim):
    """The letter says why, when, in which run, and holds the item as it came."""
    assert fail(store, claim)

    (letter,) = looks.letters(store)
    assert set(letter) == {"id", "reason", "detail", "failed_at", "run_id", "event_id", "endpoint", "item"}
    assert (letter["reason"], letter["detail"]) == ("rejected", "answered 404")
    assert (letter["run_id"], letter["event_id"]) == (run.id, claim.event_id)
    assert letter["item"] == {"id": "i1", "wallet_name": "wallet of i1", "events": [steps.TYPE]}


def test_a_rejected_event_is_counted(store, run, claim):
    """By type, and as an error of the endpoint that answered; how long that took says nothing of calls."""
    fail(store, claim, steps.OVERFLOW)

    assert looks.tally(store, run) == {
        f"taken:{steps.TYPE}": 1,
        f"failed:{steps.TYPE}": 1,
        f"errors:{steps.OVERFLOW}": 1,
    }
    assert store.measures.follow(run.id, 0) == ([], {})


def test_a_failed_event_is_nowhere_but_remembered(store, claim):
    """Its item is in the letter alone; what is left of it expires after `queue.dedupe_seconds`."""
    fail(store, claim)

    assert looks.where(store, claim.event_id) == []
    assert looks.calls(store, "worker-1") == {}
    left = looks.event(store, claim.event_id)
    assert not {"item", "owner"} & set(left)
    assert (left["state"], left["last"], left["attempt"]) == ("failed", steps.ENDPOINT, "1")
    assert 3_500_000 < store.client.pttl(store.keys.event(claim.event_id)) <= 3_600_000


def test_without_dedupe_nothing_is_remembered(make_store, claim):
    """`queue.dedupe_seconds = 0` forgets an event at once; the letter stays."""
    store = make_store(queue={"dedupe_seconds": 0})

    assert fail(store, claim)

    assert looks.event(store, claim.event_id) == {}
    assert len(looks.letters(store)) == 1


def test_an_event_whose_attempts_are_spent_is_a_failing_of_its_endpoint(store, run, claim):
    """Its last call failed for the moment, as those before it did."""
    assert fail(store, claim, reason=Reason.ATTEMPTS_SPENT)

    assert looks.tally(store, run)[f"errors:{steps.ENDPOINT}"] == 1
    assert store.measures.follow(run.id, 0) == ([], {(steps.TYPE, steps.ENDPOINT): 1})


def test_a_repeated_call_changes_nothing(store, claim):
    """After a lost reply the worker may say it again: there is one letter."""
    fail(store, claim)

    with looks.nothing_changes(store):
        assert not fail(store, claim)


@pytest.mark.parametrize("lose", losses.ALL.values(), ids=losses.ALL)
def test_a_lost_claim_fails_nothing(store, token, run, claim, lose):
    """However the claim was lost, no letter is written, and only the worker's own note of the call may go."""
    lose(store, token, run, claim)

    with looks.nothing_changes(store, store.keys.calls(claim.worker_id)):
        assert not fail(store, claim)
