"""complete_event: the worker that holds the claim settles its event as completed, and nobody else does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm.ledger.claims import Completion, LaneId
from tests.store import looks, losses, steps
from tests.wait import wait_until


@pytest.fixture
def run(running):
    return running(1)


@pytest.fixture
def claim(store, token, run):
    return steps.claim_next(store, token, run)


def complete(store, claim, endpoint=steps.ENDPOINT, seconds=0.25):
    return store.ledger.complete(Completion(claim, endpoint, seconds))


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


def test_how_long_it_waited_for_its_slot_and_its_lane_for_it_are_kept_with_it(store, run, claim):
    """From its claim, and from the lane's last answer, in milliseconds, beside how long its call took."""
    store.ledger.complete(Completion(claim, steps.ENDPOINT, 0.25, waited_seconds=0.0123, idle_seconds=0.0456))

    (call,) = store.measures.completed(run.id)
    assert (call.milliseconds, call.waited_ms, call.idle_ms) == (250.0, 12.3, 45.6)


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


def test_many_are_completed_each_on_its_own(store, token, running):
    """Those of other lanes stay in flight."""
    run = running(20)
    claims = [steps.claim(store, run) for one in steps.release(store, token, run, 20)]

    assert all(complete(store, claim) for claim in claims[5:])

    assert looks.counts(store).inflight == len(looks.calls(store, "worker-1")) == 5
    assert looks.tally(store, run)[f"completed:{steps.TYPE}"] == 15
    assert [call[:3] for call in store.measures.completed(run.id)] == [(steps.TYPE, steps.ENDPOINT, 250.0)] * 15


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


@pytest.mark.parametrize("lose", [losses.claimed_anew, losses.claimed_in_the_next_run], ids=lambda lose: lose.__name__)
def test_a_late_answer_keeps_the_note_of_a_newer_claim(store, token, run, claim, lose):
    """Were it cleared, the newer call would be unknown if the worker died."""
    lose(store, token, run, claim)

    complete(store, claim)

    assert looks.calls(store, "worker-1") == {claim.event_id: "1:"}
    assert store.recovery.orphan_worker("worker-1") == 1


def test_another_worker_completes_nothing(store, claim):
    """Only the owner settles."""
    with looks.nothing_changes(store):
        assert not complete(store, replace(claim, lane=LaneId("another", 1)))


@pytest.mark.parametrize("number", [0, 2])
def test_another_claim_number_completes_nothing(store, claim, number):
    """Only the current claim settles; the note of its call stays."""
    with looks.nothing_changes(store):
        assert not complete(store, replace(claim, number=number))


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


def test_of_twenty_calls_at_once_one_completes(store, run, claim):
    """It is counted once and timed once."""
    settled = steps.at_once(*[lambda: complete(store, claim)] * 20)

    assert settled.count(True) == 1
    assert looks.tally(store, run)[f"completed:{steps.TYPE}"] == 1
    assert len(store.measures.completed(run.id)) == 1


@pytest.mark.parametrize("rounds", range(3))
def test_settling_against_taking_back(store, token, running, rounds):
    """Of twenty events whose worker answers while it is given up for dead, each is completed or pending, not both."""
    run = running(20)
    claims = [steps.claim(store, run) for one in steps.release(store, token, run, 20)]
    halves = claims[:10], claims[10:]

    first, second, taken_back = steps.at_once(
        lambda: sum(complete(store, claim) for claim in halves[0]),
        lambda: sum(complete(store, claim) for claim in halves[1]),
        lambda: store.recovery.orphan_worker("worker-1"),
    )

    assert first + second + taken_back == 20
    assert looks.tally(store, run).get(f"completed:{steps.TYPE}", 0) == first + second
    assert looks.counts(store).pending == looks.counts(store).unsettled == taken_back
    assert looks.calls(store, "worker-1") == {}
