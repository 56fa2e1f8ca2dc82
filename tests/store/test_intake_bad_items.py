"""The drain turns bad items into dead letters with the right reasons, and nothing else suffers."""

from __future__ import annotations

import json

import pytest

from tests.store import looks, steps


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


def bad(**changes):
    """Return a good item except for these fields; None removes a field."""
    document = {"id": "i1", "wallet_name": "w", "events": [steps.TYPE], **changes}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def test_items_too_large_are_moved_aside_unread(store, token, run):
    """One after the other, byte for byte, and the items around them are taken."""
    huge = steps.item("huge", steps.TYPE, more="x" * 10_000_000)
    large = [b"%d" % index + b"x" * 65_536 for index in range(3)]
    steps.push(store, large[0], steps.item("i1", steps.TYPE), huge, large[1], steps.item("i2", steps.TYPE), large[2])

    assert steps.drain(store, token, run) == 2

    letters = looks.letters(store)
    assert [(one["reason"], one["item"], one["aside"]) for one in letters] == [
        ("too_large", None, store.keys.aside)
    ] * 4
    assert "bytes, at most 65536 are accepted (queue.max_item_bytes)" in letters[0]["detail"]
    assert store.client.lrange(store.keys.aside, 0, -1)[::-1] == [large[0], huge, large[1], large[2]]
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 2, "invalid": 4}
    assert looks.pending(store) == steps.event_ids(2)


def test_a_type_that_is_no_valid_name_has_no_event_id(store, token, run):
    """It could be that of another event: `i1` with the type `x:T`, and `i1:x` with the type `T`."""
    names = [f"x:{steps.TYPE}", "", "a b", "\u202e", "x" * 101]
    steps.push(store, *(bad(id=f"i{index}", events=[name]) for index, name in enumerate(names)))

    steps.drain(store, token, run)

    assert [(one["event_id"], one["types"]) for one in looks.letters(store)] == [(None, [name]) for name in names]
