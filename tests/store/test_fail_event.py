"""fail_event: an event becomes a dead letter, by the worker that holds its claim."""

from __future__ import annotations

import pytest
from msgspec import structs

from rlm.core.item import Reason
from rlm.ledger.claims import Completion, LaneId
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


def test_many_fail_each_on_its_own(store, token, running):
    """A letter each, the newest first in the list; those of other lanes stay in flight."""
    run = running(20)
    claims = [steps.claim(store, run) for one in steps.release(store, token, run, 20)]

    assert all(fail(store, claim) for claim in claims[5:])

    assert [one["event_id"] for one in looks.letters(store)] == [claim.event_id for claim in claims[5:]]
    assert looks.counts(store).inflight == len(looks.calls(store, "worker-1")) == 5
    assert looks.tally(store, run)[f"failed:{steps.TYPE}"] == 15


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


def test_a_late_word_clears_the_note_of_its_call(store, token, run, claim):
    """Closing a run leaves the worker's note of the call; when the worker gets to it the note goes."""
    losses.run_closed(store, token, run, claim)

    fail(store, claim)

    assert looks.calls(store, "worker-1") == {}


def test_a_late_word_keeps_the_note_of_a_newer_claim(store, token, run, claim):
    """Were it cleared, the newer call would be unknown if the worker died."""
    losses.claimed_anew(store, token, run, claim)

    fail(store, claim)

    assert store.recovery.orphan_worker("worker-1") == 1


def test_another_worker_fails_nothing(store, claim):
    """Only the owner settles."""
    with looks.nothing_changes(store):
        assert not fail(store, structs.replace(claim, lane=LaneId("another", 1)))


def test_another_claim_number_fails_nothing(store, claim):
    """Only the current claim settles; the note of its call stays."""
    with looks.nothing_changes(store):
        assert not fail(store, structs.replace(claim, number=2))


def test_of_twenty_calls_at_once_one_fails_it(store, run, claim):
    """There is one letter, and one is counted."""
    settled = steps.at_once(*[lambda: fail(store, claim)] * 20)

    assert settled.count(True) == len(looks.letters(store)) == looks.tally(store, run)[f"failed:{steps.TYPE}"] == 1


def test_completing_against_failing(store, token, running):
    """Two lanes that both hold the same claim, by a fault of ours, settle each event one way."""
    run = running(20)
    claims = [steps.claim(store, run) for one in steps.release(store, token, run, 20)]

    completed, failed = steps.at_once(
        lambda: sum(store.turns.complete(Completion(claim, steps.ENDPOINT, 0.1)) for claim in claims),
        lambda: sum(fail(store, claim) for claim in claims[::-1]),
    )

    assert completed + failed == 20
    assert len(looks.letters(store)) == failed
    assert looks.tally(store, run).get(f"completed:{steps.TYPE}", 0) == completed
    assert looks.counts(store).unsettled == 0
