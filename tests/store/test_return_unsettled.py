"""return_unsettled: unsettled events of a finishing run become leftovers; late reports find them gone."""

from __future__ import annotations

import pytest

from rlm.core.run import State
from rlm.ledger.claims import Call, LaneId
from rlm.ledger.scripts import CHUNK
from tests.store import looks, steps


def return_unsettled(store, run, *types):
    return store.recovery.return_unsettled(run.id, types or [steps.TYPE])


def put(store, token, run, state):
    """Put the first pending event into a state, and return its claim."""
    claim = steps.claim_next(store, token, run)
    if state == "backoff":
        store.ledger.retry(claim, steps.ENDPOINT, 60)
    if state == "spent":
        store.ledger.spend(claim, steps.ENDPOINT)
    assert looks.where(store, claim.event_id) == [state]
    return claim


def test_a_run_with_nothing_unsettled_returns_nothing(store, token, running):
    """Pending events are leftovers as they stand: nothing is moved."""
    run = running(3)
    steps.finish(store, token, run)

    with looks.nothing_changes(store):
        assert return_unsettled(store, run)


@pytest.mark.parametrize("state", ["inflight", "backoff", "spent"])
def test_an_event_is_pending_again_in_its_old_place(store, token, running, state):
    """Wherever it was; it has no owner, so that older claims are refused."""
    run = running(2)
    claim = put(store, token, run, state)
    steps.finish(store, token, run)

    assert return_unsettled(store, run)

    assert looks.pending(store) == steps.event_ids(2)
    assert looks.where(store, claim.event_id) == ["pending"]
    assert "owner" not in looks.event(store, claim.event_id)
    with looks.nothing_changes(store, store.keys.calls(claim.worker_id)):
        assert not store.turns.complete(steps.completed(claim))


@pytest.mark.parametrize(("state", "attempts"), [("inflight", None), ("backoff", "1"), ("spent", "1")])
def test_what_was_not_sent_spends_no_attempt(store, token, running, state, attempts):
    """Claimed without a slot no call was sent; backing off and spent have counted theirs already."""
    run = running(1)
    claim = put(store, token, run, state)
    steps.finish(store, token, run)

    return_unsettled(store, run)

    assert looks.event(store, claim.event_id).get("attempt") == attempts


def test_a_call_that_may_be_under_way_spends_an_attempt(store, token, running, types):
    """With a slot it may have been sent, so the next one is another."""
    run = running(1)
    claim = steps.claim_next(store, token, run)
    store.windows.acquire(types[0].endpoints[0], Call(LaneId("worker-1", 1), claim.event_id, steps.ENDPOINT))
    steps.finish(store, token, run)

    return_unsettled(store, run)

    assert looks.event(store, claim.event_id)["attempt"] == "1"


def test_more_than_one_script_moves_of_several_types(store, token):
    """All of them, by chunks."""
    number = CHUNK + 1
    steps.push(store, *steps.items(number, steps.TYPE, steps.OTHER_TYPE))
    run = steps.start_run(store, token)
    for _ in range(number):
        store.ledger.spend(steps.claim_next(store, token, run), steps.ENDPOINT)
    for _ in steps.release(store, token, run, 10, steps.OTHER_TYPE):
        steps.claim(store, run)
    steps.finish(store, token, run)

    assert return_unsettled(store, run, steps.TYPE, steps.OTHER_TYPE)

    for name in (steps.TYPE, steps.OTHER_TYPE):
        assert looks.pending(store, name) == steps.event_ids(number, name)
        assert looks.counts(store, name).unsettled == number


def test_a_type_that_is_not_named_stays(store, token, running):
    """Closing then finds it, and says so."""
    run = running(1)
    put(store, token, run, "inflight")
    steps.finish(store, token, run)

    with looks.nothing_changes(store):
        assert return_unsettled(store, run, steps.OTHER_TYPE)


def test_a_repeated_call_changes_nothing(store, token, running):
    """The end-of-run actor and the conductor may both do it: attempts grow once."""
    run = running(2)
    for state in ("inflight", "spent"):
        put(store, token, run, state)
    steps.finish(store, token, run)
    return_unsettled(store, run)

    with looks.nothing_changes(store):
        assert return_unsettled(store, run)


@pytest.mark.parametrize("state", [State.DRAINING, State.PLANNING, State.RUNNING])
def test_a_run_that_is_not_finishing_keeps_its_events(store, token, running, state):
    """They may still be claimed and settled."""
    run = running(1)
    put(store, token, run, "inflight")
    steps.put_into(store, run, state)

    with looks.nothing_changes(store):
        assert not return_unsettled(store, run)


def test_an_earlier_run_does_not_take_the_open_ones_events(store, token, running):
    """An end-of-run actor that comes a whole run late changes nothing, even while the next one is finishing."""
    first = running(1)
    steps.finish(store, token, first)
    store.runs.close(first.id, {}, [steps.TYPE], wanted=0)
    second = steps.start_run(store, token)
    put(store, token, second, "inflight")
    steps.finish(store, token, second)

    with looks.nothing_changes(store):
        assert not return_unsettled(store, first)


def test_a_lane_that_comes_late_claims_nothing(store, token, running):
    """Neither when the run has returned its events, nor in the next one, where a call is released again."""
    run = running(1)
    put(store, token, run, "inflight")
    steps.release(store, token, run)
    steps.finish(store, token, run)
    return_unsettled(store, run)

    with looks.nothing_changes(store):
        assert steps.turn(store, run).why == "over"

    store.runs.close(run.id, {}, [steps.TYPE], wanted=0)
    steps.release(store, token, steps.start_run(store, token))
    with looks.nothing_changes(store):
        assert steps.turn(store, run).why == "over"
