"""trim_letters: the oldest dead letters leave Redis once they are archived, and their events stay marked failed."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from tests.store import looks, steps
from tests.store.deadletters import close, drop, reject


@pytest.fixture
def letters(store, token, running):
    """Five letters of events `i1` to `i5`, oldest first, of a closed run."""
    run = running(5)
    letters = [reject(store) for _ in range(5)]
    close(store, token, run)
    return letters


def test_the_surplus_is_read_oldest_first(store, token, letters):
    """Those beyond what is kept; none where there are no more than that."""
    assert store.letters.surplus(3) == letters[:2]
    assert store.letters.surplus(5) == store.letters.surplus(9) == []


def test_what_nobody_can_read_is_moved_aside(store, token, letters):
    """Another program pushed it."""
    giant = b"x" * 2_200_000
    store.client.rpush(store.keys.failed, giant)

    assert store.letters.surplus(3) == [b""]
    assert store.letters.trim(token, [b"", *letters[:2]]) == 3

    assert store.client.lrange(store.keys.aside, 0, -1) == [giant]
    assert list(store.letters.all()) == letters[:1:-1]


def test_the_oldest_are_removed_and_their_events_remembered(store, token, letters):
    """An item with the same id is still a duplicate."""
    assert store.letters.trim(token, letters[:2]) == 2

    assert list(store.letters.all()) == letters[:1:-1]
    assert looks.event(store, steps.event_id(1))["state"] == "failed"
    steps.push(store, steps.item("i1", steps.TYPE))
    steps.start_run(store, token)
    assert looks.tally(store) == {"duplicates": 1}


def test_a_repeated_call_removes_nothing_more(store, token, letters):
    """The reply of the first may have been lost."""
    store.letters.trim(token, letters[:2])

    with looks.nothing_changes(store):
        assert store.letters.trim(token, letters[:2]) == 0


@pytest.mark.parametrize("gone", [0, 1])
def test_a_letter_dropped_meanwhile_has_no_other_removed(store, token, letters, gone):
    """What was not read is not archived, so it stays."""
    drop(store, letters[gone])

    assert store.letters.trim(token, letters[:2]) == gone

    assert list(store.letters.all()) == letters[:1:-1] + ([] if gone else [letters[1]])


def test_none_is_none(store, token, letters):
    """An empty list changes nothing, nor does one on an empty list."""
    with looks.nothing_changes(store):
        assert store.letters.trim(token, []) == 0
    store.client.delete(store.keys.failed)
    with looks.nothing_changes(store):
        assert store.letters.trim(token, letters) == 0


def test_a_deposed_conductor_removes_nothing(store, token, letters):
    """Its token is not the lease's."""
    with looks.nothing_changes(store), pytest.raises(FencedError):
        store.letters.trim(token - 1, letters[:2])
