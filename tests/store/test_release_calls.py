"""release_calls: the calls of an open run are in the list of releases, and lanes take the first one first."""

from __future__ import annotations

import pytest
from msgspec import structs

from rlm.core.errors import FencedError
from tests.store import looks, steps


def test_a_call_is_released_and_its_event_waits(store, token, running):
    """No event is claimed yet: it is counted as one that waits for a call, and for one more that is released."""
    run = running(2)
    before = looks.redis_us(store)

    (released,) = steps.release(store, token, run, void=30_000_000)

    assert looks.released(store) == [steps.TYPE]
    assert before + 30_000_000 <= store.turns.releases()[0].void == released.void <= looks.redis_us(store) + 30_000_000
    assert looks.where(store, steps.event_id(1)) == ["pending"]
    assert (looks.counts(store).pending, looks.counts(store).released, looks.counts(store).unsettled) == (1, 1, 2)


def test_calls_are_taken_in_the_order_of_their_release(store, token):
    """Of several types, in one round trip or in several; it is told how many are released by now."""
    steps.push(store, *steps.items(3, steps.TYPE, steps.OTHER_TYPE))
    run = steps.start_run(store, token)
    first, second = steps.release(store, token, run, 2)
    (other,) = steps.release(store, token, run, 1, steps.OTHER_TYPE)

    assert store.turns.release(token, run.id, [first, other, second]) == 6

    assert looks.released(store) == [
        *[steps.TYPE] * 2,
        steps.OTHER_TYPE,
        steps.TYPE,
        steps.OTHER_TYPE,
        steps.TYPE,
    ]
    waiting, released = store.ledger.count_waiting([steps.TYPE, steps.OTHER_TYPE])
    assert (waiting[steps.TYPE].pending, waiting[steps.TYPE].released, released) == (3, 0, 6)
    claimed = [steps.claim(store, run).type for _ in range(5)]
    assert claimed == [*[steps.TYPE] * 2, steps.OTHER_TYPE, steps.TYPE, steps.OTHER_TYPE]


def test_more_calls_than_events(store, token, running):
    """What is counted as released are events: no more than there are."""
    run = running(2)

    steps.release(store, token, run, 200)

    assert len(looks.released(store)) == 200
    assert (looks.counts(store).pending, looks.counts(store).released) == (0, 2)


def test_what_is_no_release_is_counted_as_none(store, token, running):
    """Whoever reaches Redis may have written it."""
    run = running(2)
    steps.release(store, token, run)
    store.client.rpush(store.keys.releases, "no JSON", '{"of": {"kind": "T"}}', "[]")

    assert looks.released(store) == [steps.TYPE]
    assert looks.counts(store).released == 1


def test_another_run_releases_nothing(store, token, running):
    """A run that is closed is no longer a reason to send anything."""
    run = running(2)
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, [], wanted=0)
    steps.open_run(store, token)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        steps.release(store, token, run, 2)


def test_more_calls_than_lua_can_take_apart_are_released(store, token, running):
    """Thousands of lanes may be free at one moment; in the order in which they were chosen."""
    run = running(1)
    (one,) = steps.release(store, token, run)
    store.client.delete(store.keys.releases)
    many = [structs.replace(one, call=number) for number in range(9000)]

    assert store.turns.release(token, run.id, many) == 9000
    assert [found.call for found in store.turns.releases()] == [*range(9000)]
