"""void_releases: released calls that no lane makes in time are taken back; their events have stayed pending."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from tests.store import looks, steps


def test_nothing_released_takes_nothing_back(store, token, running):
    """Pending events stay as they are."""
    running(2)

    with looks.nothing_changes(store):
        assert store.recovery.void_releases(token) == []


def test_a_release_whose_time_is_over_is_taken_back(store, token, running):
    """Its event waits in its place all the while."""
    steps.release(store, token, running(3), void=0)

    assert store.recovery.void_releases(token) == [steps.ENDPOINT]

    assert looks.released(store) == []
    assert looks.pending(store) == steps.event_ids(3)
    assert looks.counts(store).released == 0


def test_a_release_whose_time_is_not_over_stays(store, token, running):
    """A lane may be on its way to it; a repeated call changes nothing."""
    run = running(4)
    steps.release(store, token, run, 2, void=0)
    (later,) = steps.release(store, token, run)

    assert store.recovery.void_releases(token) == [steps.ENDPOINT] * 2

    assert store.turns.releases()[0].void == later.void
    with looks.nothing_changes(store):
        assert store.recovery.void_releases(token) == []


@pytest.mark.parametrize(
    "raw", ["", "no JSON", "null", "7", '{"void": "soon"}', '{"void": {}}', "{}", '{"of": 7}', '{"of": {}}']
)
def test_what_is_no_release_is_taken_out_of_the_way(store, token, running, raw):
    """It would stand before the others for ever."""
    run = running(1)
    store.client.rpush(store.keys.releases, raw)
    steps.release(store, token, run)

    assert store.recovery.void_releases(token) == [""]

    assert looks.released(store) == [steps.TYPE]


def test_many_of_several_types_are_taken_back(store, token):
    """All in one step."""
    steps.push(store, *steps.items(2, steps.TYPE, steps.OTHER_TYPE))
    run = steps.start_run(store, token)
    steps.release(store, token, run, 300, void=0)
    steps.release(store, token, run, 300, steps.OTHER_TYPE, void=0)

    assert len(store.recovery.void_releases(token)) == 600

    assert looks.released(store) == []


def test_a_stale_token_takes_nothing_back(store, token, running):
    """A conductor whose lease another one took does not know what is released."""
    steps.release(store, token, running(1), void=0)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        store.recovery.void_releases(token)
