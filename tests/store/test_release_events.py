"""release_events: the first pending events of a type are released, each under a new number."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.claims import ClaimCheck
from rlm.ledger.scripts import Script
from tests.store import looks, steps

SCRIPT = Script("release_events")


def test_nothing_pending_releases_nothing(store, token, running):
    """There are no messages to send."""
    run = running()

    with looks.nothing_changes(store):
        assert steps.release(store, token, run, 3) == []


def test_no_endpoint_releases_nothing(store, token, running):
    """Where no slot is free, nothing is asked for."""
    run = running(2)

    with looks.nothing_changes(store):
        assert store.ledger.release(token, run.id, {}) == []
        assert store.ledger.release(token, run.id, {steps.TYPE: []}) == []


def test_an_event_is_released_for_an_endpoint(store, token, running):
    """It is no longer pending; its message carries its number; it is void once `claim_seconds` are over."""
    run = running(1)
    before = looks.redis_us(store)

    released = steps.release(store, token, run, endpoint=steps.OVERFLOW, claim_seconds=30)

    assert released == [ClaimCheck(steps.event_id(1), run.id, 1)]
    assert looks.where(store, steps.event_id(1)) == ["released"]
    assert looks.event(store, steps.event_id(1))["endpoint"] == steps.OVERFLOW
    due = store.client.zscore(store.keys.released(steps.TYPE), steps.event_id(1))
    assert before + 30_000_000 <= due <= looks.redis_us(store) + 30_000_000


def test_the_first_in_order_go_to_the_endpoints_in_theirs(store, token, running):
    """The first event goes to the endpoint named first."""
    run = running(3)

    released = store.ledger.release(token, run.id, {steps.TYPE: [steps.OVERFLOW, steps.ENDPOINT]})

    assert [one.event_id for one in released] == steps.event_ids(2)
    assert looks.event(store, steps.event_id(1))["endpoint"] == steps.OVERFLOW
    assert looks.event(store, steps.event_id(2))["endpoint"] == steps.ENDPOINT
    assert looks.pending(store) == [steps.event_id(3)]


def test_more_endpoints_than_events(store, token, running):
    """All that is pending is released, and no more."""
    run = running(2)

    assert len(steps.release(store, token, run, 200)) == 2

    assert looks.counts(store).released == 2
    assert looks.counts(store).pending == 0


def test_several_types_in_one_round_trip(store, token):
    """Each type's events go by their own order."""
    steps.push(store, *steps.items(3, steps.TYPE, steps.OTHER_TYPE))
    run = steps.start_run(store, token)

    released = store.ledger.release(
        token, run.id, {steps.OTHER_TYPE: ["open_order_api"], steps.TYPE: [steps.ENDPOINT] * 2}
    )

    assert [one.event_id for one in released] == [steps.event_id(1, steps.OTHER_TYPE), *steps.event_ids(2)]


def test_a_repeated_call_releases_the_next(store, token, running):
    """After a lost reply no event is released twice; the lost ones come back once their time is over."""
    run = running(3)

    first = steps.release(store, token, run, 2)
    second = steps.release(store, token, run, 2)

    assert [one.event_id for one in first + second] == steps.event_ids(3)


def test_an_event_that_is_not_pending_gets_no_number(store, token, running):
    """Between looking and releasing it may have gone: its state and number stay."""
    run, keys = running(2), store.keys
    steps.release(store, token, run)

    with looks.nothing_changes(store):
        numbers = SCRIPT(
            store.client,
            [
                keys.lease,
                keys.current,
                keys.pending(steps.TYPE),
                keys.released(steps.TYPE),
                *map(keys.event, ["a", "b"]),
            ],
            [token, run.id, 0, steps.event_id(1), steps.ENDPOINT, "never heard of", steps.ENDPOINT],
        )

    assert numbers == [0, 0]


def test_each_release_has_a_number_of_its_own(store, token, running):
    """So that a message of an earlier release can be told from the current one's."""
    run = running(1)
    steps.release(store, token, run, claim_seconds=0)
    store.recovery.void_unclaimed([steps.TYPE], looks.redis_us(store))

    (second,) = steps.release(store, token, run)

    assert second.number == 2


def test_a_stale_token_releases_nothing(store, token, running):
    """A conductor whose lease another one took is fenced."""
    run = running(2)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError, match="release_events"):
        steps.release(store, token, run, 2)


def test_another_run_releases_nothing(store, token, running):
    """A run that is closed is no longer a reason to send anything."""
    run = running(2)
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, [], wanted=0)
    steps.open_run(store, token)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        steps.release(store, token, run, 2)


def test_ten_calls_at_once_release_each_event_once(store, token, running):
    """Whoever sees the same pending events, each gets one number from one of them."""
    run = running(20)

    released = steps.at_once(*[lambda: steps.release(store, token, run, 5)] * 10)

    names = [one.event_id for each in released for one in each]
    assert len(names) == len(set(names))
    assert looks.counts(store).released == len(names)
    assert looks.counts(store).pending == 20 - len(names)
    assert {one.number for each in released for one in each} == {1}
