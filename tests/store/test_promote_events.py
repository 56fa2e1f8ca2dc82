"""promote_events: events whose back-off is over are pending again, each in its old place."""

from __future__ import annotations

from rlm.ledger.scripts import Script
from tests.store import looks, steps

SCRIPT = Script("promote_events")


def back_off(store, token, run, number, delay_seconds):
    """Let the first `number` pending events wait for another attempt."""
    for _ in steps.release(store, token, run, number):
        assert store.ledger.retry(steps.claim(store, run), steps.ENDPOINT, delay_seconds)


def promote(store, *types):
    return store.recovery.promote(types or [steps.TYPE], looks.redis_us(store))


def test_nothing_backing_off_promotes_nothing(store, running):
    """Neither for a type nor for no type."""
    running(2)

    with looks.nothing_changes(store):
        assert promote(store) == 0
        assert store.recovery.promote([], looks.redis_us(store)) == 0


def test_an_event_whose_back_off_is_over_is_pending_again(store, token, running):
    """It keeps its place before the events that came after it, and its history."""
    run = running(3)
    back_off(store, token, run, 1, 0)
    before = looks.event(store, steps.event_id(1))

    assert promote(store) == 1

    assert looks.pending(store) == steps.event_ids(3)
    assert looks.where(store, steps.event_id(1)) == ["pending"]
    assert looks.event(store, steps.event_id(1)) == before


def test_an_event_whose_back_off_is_not_over_stays(store, token, running):
    """Only what is due moves."""
    run = running(2)
    back_off(store, token, run, 1, 0)
    back_off(store, token, run, 1, 60)

    assert promote(store) == 1

    assert looks.where(store, steps.event_id(2)) == ["backoff"]


def test_many_of_several_types_are_promoted(store, token):
    """At most 200 a type in one call, the rest in the next."""
    steps.push(store, *steps.items(201, steps.TYPE), *steps.items(2, steps.OTHER_TYPE))
    run = steps.start_run(store, token)
    back_off(store, token, run, 201, 0)
    for _ in steps.release(store, token, run, 2, steps.OTHER_TYPE):
        store.ledger.retry(steps.claim(store, run), "open_order_api", 0)

    assert promote(store, steps.TYPE, steps.OTHER_TYPE) == 202
    assert promote(store, steps.TYPE, steps.OTHER_TYPE) == 1

    assert looks.pending(store) == steps.event_ids(201)
    assert looks.pending(store, steps.OTHER_TYPE) == steps.event_ids(2, steps.OTHER_TYPE)


def test_a_repeated_call_changes_nothing(store, token, running):
    """What is pending again is not promoted again."""
    back_off(store, token, running(2), 2, 0)
    promote(store)

    with looks.nothing_changes(store):
        assert promote(store) == 0


def test_events_that_are_elsewhere_stay_there(store, token, running):
    """Between looking and promoting an event may have moved on; one may never have been heard from."""
    run, keys = running(3), store.keys
    claim = steps.claim_next(store, token, run)
    ids = [claim.event_id, steps.event_id(2), "never:heard"]

    with looks.nothing_changes(store):
        promoted = SCRIPT(
            store.client,
            backoff=keys.backoff(steps.TYPE),
            pending=keys.pending(steps.TYPE),
            events=[{"id": one, "key": keys.event(one)} for one in ids],
        )

    assert promoted == 0
