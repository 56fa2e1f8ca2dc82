"""trim_giant: a dead letter entry that is too large to be read leaves Redis once it is archived."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from tests.store import looks, steps
from tests.store.deadletters import reject_at_intake

GIANT = b"G" * 2_000_001


@pytest.fixture
def giant(store, token):
    """The name of a foreign entry that was set aside; two letters are newer."""
    store.client.lpush(store.keys.failed, GIANT)
    for raw in (b"older", b"newer"):
        reject_at_intake(store, token, raw)
    name, letters = store.letters.surplus(token, 2, 10**9)
    assert letters == []
    return name


def test_it_is_read_in_pieces_and_removed(store, token, giant):
    """The letters stay."""
    assert b"".join(store.letters.pieces(giant)) == GIANT

    store.letters.trim_giant(token, giant)

    assert store.letters.surplus(token, 2, 10**9) == ("", [])
    assert store.letters.count() == 2
    assert not store.client.exists(store.keys.giant(giant))


def test_a_repeated_call_changes_nothing(store, token, giant):
    """The reply of the first may have been lost."""
    store.letters.trim_giant(token, giant)

    with looks.nothing_changes(store):
        store.letters.trim_giant(token, giant)


def test_what_a_crash_left_set_aside_is_named_again(store, token, giant):
    """Whether or not there is more to be archived."""
    assert store.letters.surplus(token, 100, 10**9) == (giant, [])


def test_a_deposed_conductor_removes_nothing(store, token, giant):
    """What it archived, its successor archives as well."""
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        store.letters.trim_giant(token, giant)
