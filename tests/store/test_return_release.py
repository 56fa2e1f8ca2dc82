"""return_release: released events that nobody will claim are pending again, each in its old place."""

from __future__ import annotations

import pytest

from rlm.ledger.claims import Claim, ClaimCheck
from tests.store import looks, steps


def void_unclaimed(store, *types):
    return store.recovery.void_unclaimed(types or [steps.TYPE], looks.redis_us(store))


def test_nothing_released_returns_nothing(store, running):
    """Neither for a type, nor for no type, nor for no message."""
    running(2)

    with looks.nothing_changes(store):
        assert void_unclaimed(store) == 0
        assert store.recovery.void_unclaimed([], looks.redis_us(store)) == 0
        assert store.recovery.void_fetched([]) == 0


def test_a_release_whose_time_is_over_is_pending_again(store, token, running):
    """It keeps its place before the events that came after it."""
    steps.release(store, token, running(3), claim_seconds=0)

    assert void_unclaimed(store) == 1

    assert looks.pending(store) == steps.event_ids(3)
    assert looks.counts(store).released == 0


def test_a_release_whose_time_is_not_over_stays(store, token, running):
    """Its message may be on its way."""
    run = running(2)
    steps.release(store, token, run, claim_seconds=0)
    steps.release(store, token, run, claim_seconds=60)

    assert void_unclaimed(store) == 1

    assert looks.where(store, steps.event_id(2)) == ["released"]


def test_a_caller_whose_clock_is_ahead_returns_nothing_early(store, token, running):
    """Whether the time is over is decided by the clock of Redis."""
    steps.release(store, token, running(1))

    with looks.nothing_changes(store):
        assert store.recovery.void_unclaimed([steps.TYPE], looks.redis_us(store) + 3_600_000_000) == 0


def test_many_of_several_types_return(store, token):
    """Each type's to its own."""
    steps.push(store, *steps.items(150, steps.TYPE, steps.OTHER_TYPE))
    run = steps.start_run(store, token)
    steps.release(store, token, run, 150, claim_seconds=0)
    steps.release(store, token, run, 150, steps.OTHER_TYPE, claim_seconds=0)

    assert void_unclaimed(store, steps.TYPE, steps.OTHER_TYPE) == 300

    assert looks.pending(store) == steps.event_ids(150)
    assert looks.pending(store, steps.OTHER_TYPE) == steps.event_ids(150, steps.OTHER_TYPE)


def test_a_repeated_call_changes_nothing(store, token, running):
    """What is pending again is not returned again."""
    released = steps.release(store, token, running(2), 2, claim_seconds=0)
    void_unclaimed(store)

    with looks.nothing_changes(store):
        assert void_unclaimed(store) == 0
        assert store.recovery.void_fetched(released) == 0


def test_what_a_dead_worker_fetched_is_pending_at_once(store, token, running):
    """Nobody waits for a time that is known to be in vain; others' releases stay."""
    first, second, third = steps.release(store, token, running(3), 3)

    assert store.recovery.void_fetched([first, third]) == 2

    assert looks.pending(store) == [first.event_id, third.event_id]
    assert looks.where(store, second.event_id) == ["released"]


def test_what_it_had_claimed_is_not_touched(store, token, running):
    """Claimed events are taken back with their slots, by orphan_event."""
    released = steps.release(store, token, running(1))
    steps.claim(store, released[0])

    with looks.nothing_changes(store):
        assert store.recovery.void_fetched(released) == 0


@pytest.mark.parametrize("number", [1, 3])
def test_a_message_of_another_release_returns_nothing(store, token, running, number):
    """The event was released again meanwhile, to a worker that is alive."""
    run = running(1)
    steps.release(store, token, run, claim_seconds=0)
    void_unclaimed(store)
    (released,) = steps.release(store, token, run)
    assert released.number == 2

    with looks.nothing_changes(store):
        assert store.recovery.void_fetched([ClaimCheck(released.event_id, run.id, number)]) == 0


def test_an_event_never_heard_of_returns_nothing(store, running):
    """A message may survive its event."""
    run = running(1)

    with looks.nothing_changes(store):
        assert store.recovery.void_fetched([ClaimCheck(f"never:{steps.TYPE}", run.id, 1)]) == 0


def test_twenty_calls_at_once_return_each_event_once(store, token, running):
    """Supervisors and conductor may notice the same thing at the same moment."""
    released = steps.release(store, token, running(10), 10, claim_seconds=0)

    returned = steps.at_once(
        *[lambda: store.recovery.void_fetched(released)] * 10, *[lambda: void_unclaimed(store)] * 10
    )

    assert sum(returned) == 10
    assert looks.pending(store) == steps.event_ids(10)


def test_claims_against_returns_at_once(store, token, running):
    """Of ten events, each is either claimed or pending again, and both sides know which."""
    released = steps.release(store, token, running(10), 10)

    claims_and_returns = steps.at_once(
        *[lambda one=one: steps.try_claim(store, one) for one in released],
        *[lambda one=one: store.recovery.void_fetched([one]) for one in released],
    )

    for one, claim, returned in zip(released, claims_and_returns[:10], claims_and_returns[10:], strict=True):
        assert isinstance(claim, Claim) == (not returned)
        assert looks.where(store, one.event_id) == (["pending"] if returned else ["inflight"])
