"""A turn settles its lane's completions, but not those that another has by now; then the turn continues."""

from __future__ import annotations

import pytest
from msgspec import structs

from rlm.core.errors import StoreError
from rlm.ledger.claims import Completion
from tests.store import looks, losses, steps
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers


@pytest.fixture
def run(running):
    return running(1)


@pytest.fixture
def claim(store, token, run):
    return steps.claim_next(store, token, run)


def complete(store, claim, endpoint=steps.ENDPOINT, seconds=0.25):
    return store.turns.complete(Completion(claim, endpoint, seconds))


def test_a_completed_event_is_counted_and_timed(store, run, claim):
    """By type, by endpoint, and with the milliseconds that its type's call took there."""
    assert complete(store, claim, steps.OVERFLOW, 0.25)

    assert looks.tally(store, run) == {
        f"taken:{steps.TYPE}": 1,
        f"completed:{steps.TYPE}": 1,
        f"delivered:{steps.OVERFLOW}": 1,
    }
    (call,) = store.measures.completed(run.id)
    assert call[:3] == (steps.TYPE, steps.OVERFLOW, 250.0)
    assert 0 <= looks.redis_us(store) - call.at_us < 10_000_000


def test_a_completed_event_is_nowhere_but_remembered(store, claim):
    """Its item is gone; what is left says how it went, and expires after `queue.dedupe_seconds`."""
    complete(store, claim, steps.OVERFLOW)

    assert looks.where(store, claim.event_id) == []
    assert looks.calls(store, "worker-1") == {}
    left = looks.event(store, claim.event_id)
    assert not {"item", "owner"} & set(left)
    assert (left["state"], left["last"], left["attempt"]) == ("completed", steps.OVERFLOW, "1")
    remembered_ms = store.client.pttl(store.keys.event(claim.event_id))
    assert 3_500_000 < remembered_ms <= 3_600_000


def test_without_dedupe_nothing_is_remembered(make_store, run, claim):
    """`queue.dedupe_seconds = 0` forgets an event at once."""
    store = make_store(queue={"dedupe_seconds": 0})

    assert complete(store, claim)

    assert looks.event(store, claim.event_id) == {}
    assert looks.tally(store, run)[f"completed:{steps.TYPE}"] == 1


def test_a_repeated_call_changes_nothing(store, claim):
    """After a lost reply the worker may say it again: it is counted once."""
    complete(store, claim)

    with looks.nothing_changes(store):
        assert not complete(store, claim)


@pytest.mark.parametrize("lose", losses.ALL.values(), ids=losses.ALL)
def test_a_lost_claim_completes_nothing(store, token, run, claim, lose):
    """However the claim was lost, a late answer changes nothing but the worker's own note of the call."""
    lose(store, token, run, claim)

    with looks.nothing_changes(store, store.keys.calls(claim.worker_id)):
        assert not complete(store, claim)


def test_a_late_answer_clears_the_note_of_its_call(store, token, run, claim):
    """Closing a run leaves the worker's note of the call; when the worker gets to it the note goes."""
    losses.run_closed(store, token, run, claim)
    assert looks.calls(store, "worker-1") == {claim.event_id: "1:"}

    complete(store, claim)

    assert looks.calls(store, "worker-1") == {}


@pytest.mark.parametrize("number", [0, 2])
def test_another_claim_number_completes_nothing(store, claim, number):
    """Only the current claim settles; the note of its call stays."""
    with looks.nothing_changes(store):
        assert not complete(store, structs.replace(claim, number=number))


def test_a_lease_that_ran_out_serves_until_the_event_is_taken_back(store, token, run):
    """An answer that comes a little late is better than a second call."""
    claim = steps.claim_next(store, token, run, lease_seconds=0)
    expired = looks.redis_us(store)
    wait_until(lambda: looks.redis_us(store) > expired)

    assert complete(store, claim)

    assert store.recovery.orphan_expired([steps.TYPE], looks.redis_us(store)) == 0


def test_a_finishing_run_still_counts_answers(store, token, run, claim):
    """Calls under way are awaited; what their workers say counts until the event is taken back."""
    steps.finish(store, token, run)

    assert complete(store, claim)

    assert looks.tally(store, run)[f"completed:{steps.TYPE}"] == 1


def test_a_turn_settles_and_claims_in_one_step(store, token, running):
    """The lane has its next event, and the books have its last."""
    run = running(2)
    claim = steps.claim_next(store, token, run)
    steps.release(store, token, run)

    turn = steps.turn(store, run, completed=steps.completed(claim))

    assert (turn.settled, turn.claim.event_id, turn.why) == (True, steps.event_id(2), "")
    assert looks.calls(store, "worker-1") == {steps.event_id(2): "1:"}
    assert looks.tally(store, run)[f"completed:{steps.TYPE}"] == 1


def test_a_repeated_settlement_changes_nothing_while_the_turn_goes_on(store, token, running):
    """It is told that its claim was lost, and claims the next event all the same."""
    run = running(3)
    claim = steps.claim_next(store, token, run)
    steps.release(store, token, run, 2)
    steps.turn(store, run, completed=steps.completed(claim))
    event, tally = looks.event(store, claim.event_id), looks.tally(store, run)

    turn = steps.turn(store, run, completed=steps.completed(claim))

    assert (turn.settled, turn.claim.event_id) == (False, steps.event_id(3))
    assert (looks.event(store, claim.event_id), looks.tally(store, run)) == (event, tally)
    assert len(store.measures.completed(run.id)) == 1


@pytest.mark.parametrize("why", ["none", "over", "revision"])
def test_it_is_settled_though_nothing_is_claimed(store, run, claim, why):
    """Whatever the reason: the answer counts."""
    if why == "over":
        store.runs.cancel(run.id)
    if why == "revision":
        store.client.hset(store.keys.run(run.id), "revision", "another")

    turn = steps.turn(store, run, completed=steps.completed(claim))

    assert (turn.settled, turn.claim, turn.why) == (True, None, why)
    assert looks.event(store, claim.event_id)["state"] == "completed"


@pytest.mark.parametrize("wrong", ["tally", "timings", "inflight"])
def test_what_redis_refuses_leaves_all_as_it_was(store, token, run, claim, wrong):
    """The call is made and its answer must be written: the lane tries again until it is."""
    key = store.keys.inflight(steps.TYPE) if wrong == "inflight" else getattr(store.keys, wrong)(run.id)
    kept = store.client.dump(key)
    store.client.delete(key)
    store.client.set(key, "nothing of the kind")
    steps.release(store, token, run)
    tally = {} if wrong == "tally" else looks.tally(store, run)

    with looks.nothing_changes(store, store.keys.tally(run.id)), pytest.raises(StoreError):
        steps.turn(store, run, completed=steps.completed(claim))

    assert wrong == "tally" or looks.tally(store, run) == tally
    store.client.delete(key)
    if kept:
        store.client.restore(key, 0, kept)
    assert complete(store, claim)
    assert looks.tally(store, run)[f"completed:{steps.TYPE}"] == 1
    assert len(store.measures.completed(run.id)) == 1


def test_an_event_that_is_in_flight_no_more_is_not_counted(store, run, claim):
    """Its place was lost with a key, its hash was not: it is found again, and sent under the same key."""
    store.client.delete(store.keys.inflight(steps.TYPE))

    assert not complete(store, claim)

    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 1}
    assert store.measures.completed(run.id) == []
