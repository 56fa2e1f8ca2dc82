"""Setting a key aside: all of it or single entries, and its replacement from the same instant on."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.quarantine import Successor
from tests.store import looks


def aside(store):
    (found,) = store.quarantine.all()
    return found


def test_a_key_is_renamed_and_entered_in_the_register(store, token, prefix):
    """What it held is there, whole, and the register says what was wrong."""
    store.client.set(store.keys.types, "another type")

    assert store.quarantine.set_aside(token, store.keys.types, "is a string")

    assert not store.client.exists(store.keys.types)
    assert (aside(store).key, aside(store).wrong) == (store.keys.types, "is a string")
    assert store.client.get(aside(store).where) == b"another type"


def test_nothing_is_done_where_the_key_is_gone(store, token):
    """Somebody else has seen to it."""
    assert not store.quarantine.set_aside(token, store.keys.types, "is a string")
    assert store.quarantine.all() == []


@pytest.mark.parametrize("kind", ["hash", "list", "set"])
def test_single_entries_go_and_the_others_stay(store, token, kind):
    """One undecodable byte costs the entry that it is in."""
    key, good, bad = store.keys.totals, b"good", b"\xff"
    {
        "hash": lambda: store.client.hset(key, mapping={good: 1, bad: 2}),
        "list": lambda: store.client.rpush(key, good, bad, good, bad),
        "set": lambda: store.client.sadd(key, good, bad),
    }[kind]()

    assert store.quarantine.set_aside(token, key, "holds what it cannot", kind=kind, entries=[bad])

    read = {"hash": store.client.hgetall, "set": store.client.smembers}.get(
        kind, lambda one: store.client.lrange(one, 0, -1)
    )
    assert read(key) == {"hash": {good: b"1"}, "list": [good, good], "set": {good}}[kind]
    assert read(aside(store).where) == {"hash": {bad: b"2"}, "list": [bad], "set": {bad}}[kind]


def test_what_is_to_stand_in_its_place_does_from_the_same_instant(store, token):
    """A rest of so many microseconds from now, or a longer one that stood there."""
    key, health = store.keys.window("w"), store.keys.health("w")
    store.client.set(key, "another type")

    store.quarantine.set_aside(
        token, key, "is a string", then=Successor("health", {"held_until_us": "+60000000", "by": "x"}, "w")
    )
    first = int(store.client.hget(health, "held_until_us"))
    store.client.set(key, "again")
    store.quarantine.set_aside(token, key, "is a string", then=Successor("health", {"held_until_us": "+1000000"}, "w"))

    assert first - looks.redis_us(store) == pytest.approx(60_000_000, abs=5_000_000)
    assert int(store.client.hget(health, "held_until_us")) == first
    assert store.client.hget(health, "by") == b"x"


def test_a_deposed_conductor_sets_nothing_aside(store, token):
    """Its successor does."""
    store.client.set(store.keys.types, "another type")

    with pytest.raises(FencedError):
        store.quarantine.set_aside(token - 1, store.keys.types, "is a string")

    assert store.client.get(store.keys.types) == b"another type"


def test_what_was_deleted_is_told_no_more(store, token):
    """The register is of what is still there."""
    store.client.set(store.keys.types, "another type")
    store.quarantine.set_aside(token, store.keys.types, "is a string")

    store.client.delete(aside(store).where)

    assert store.quarantine.all() == []
