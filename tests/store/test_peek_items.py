"""peek_items: reads the oldest staged items up to a number of bytes, without removing them, except giants.

It checks its token only if it sets a giant aside: otherwise it changes nothing, and take_chunk checks what was read.
"""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.quarantine import Giants
from tests.store import looks, steps

LONGEST = 1000


def giants(store):
    return Giants(store, store.keys.processing, LONGEST)


def look(store, token=0, count=200, size=1_000_000):
    """Peek; return the name of the oldest giant, "" without one, and the items."""
    return giants(store).peek(token, count, size)


def peek(store, count=200, size=1_000_000):
    giant, items = look(store, count=count, size=size)
    assert giant == ""
    return items


def aside(store):
    """What was set aside, oldest first."""
    names = store.client.lrange(store.keys.aside(store.keys.processing), 0, -1)[::-1]
    return [b"".join(giants(store).pieces(name.decode())) for name in names]


def staged(store):
    return store.client.lrange(store.keys.processing, 0, -1)[::-1]


def fill(store, *items):
    """Stage items, the first being the oldest."""
    store.client.lpush(store.keys.processing, *items)


def test_empty_staging_has_nothing_to_read(store):
    """No staging list is an empty one."""
    assert peek(store) == []


def test_one_item_is_read_byte_for_byte(store):
    """Whatever the audit system pushed comes back."""
    fill(store, b"\xff\x00\r\n")

    assert peek(store) == [b"\xff\x00\r\n"]


def test_the_oldest_come_first(store):
    """Items are read in the order of their arrival, no more than asked for."""
    fill(store, *steps.items(5, steps.TYPE))

    assert peek(store, count=3) == steps.items(3, steps.TYPE)


def test_the_end_of_the_list_ends_the_chunk(store):
    """Fewer items than asked for are all there are."""
    fill(store, *steps.items(250, steps.TYPE))

    assert len(peek(store)) == 200
    assert len(peek(store, count=300)) == 250


def test_reading_stops_before_the_bytes_are_exceeded(store):
    """The item that would exceed them is left for the next chunk; one that fits exactly is taken."""
    fill(store, b"1" * 40, b"2" * 60, b"3")

    assert peek(store, size=99) == [b"1" * 40]
    assert peek(store, size=100) == [b"1" * 40, b"2" * 60]
    assert peek(store, size=101) == [b"1" * 40, b"2" * 60, b"3"]


def test_an_item_larger_than_the_bytes_is_read_alone(store):
    """Otherwise the drain would never get past it."""
    fill(store, b"1" * 500, b"2")

    assert peek(store, size=100) == [b"1" * 500]


def test_an_empty_item_is_an_item(store):
    """An empty string does not end the list."""
    fill(store, b"", b"2")

    assert peek(store) == [b"", b"2"]


def test_reading_changes_nothing_however_often(store):
    """The same items are there for whoever reads next."""
    fill(store, *steps.items(3, steps.TYPE))

    with looks.nothing_changes(store):
        first, second = peek(store), peek(store)

    assert first == second == steps.items(3, steps.TYPE)


def test_readers_at_once_read_the_same(store):
    """Two conductors, one of them late, see the same chunk; take_chunk decides between them."""
    fill(store, *steps.items(50, steps.TYPE))

    chunks = steps.at_once(*[lambda: peek(store, count=20)] * 10)

    assert chunks == [steps.items(20, steps.TYPE)] * 10


def test_a_giant_is_set_aside_in_the_same_step(store, token):
    """It is no longer in the list, and nobody has received it; those before it are read, those behind it wait."""
    fill(store, b"1", b"2", b"G" * (LONGEST + 1), b"3")

    giant, items = look(store, token)

    assert items == [b"1", b"2"]
    assert aside(store) == [b"G" * (LONGEST + 1)]
    assert giants(store).size(giant) == LONGEST + 1
    assert staged(store) == [b"1", b"2", b"3"]


def test_one_that_is_just_small_enough_is_read(store, token):
    """The bound itself is no giant."""
    fill(store, b"G" * LONGEST)

    assert look(store, token) == ("", [b"G" * LONGEST])


def test_giants_are_set_aside_one_a_step_the_oldest_first(store, token):
    """A step copies one at most, wherever it stands; equal ones are told apart."""
    large = [b"G" * 2000, b"G" * 2000, b"H" * 3000]
    fill(store, large[0], b"1", large[1], large[2])

    names = {look(store, token)[0] for _ in range(4)}

    assert len(names) == 1
    assert aside(store) == large
    assert staged(store) == [b"1"]


def test_a_deposed_conductor_sets_nothing_aside(store, token):
    """And learns that it is deposed."""
    fill(store, b"1", b"G" * 2000)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        look(store, token)


def test_an_item_cannot_pass_for_a_giant(store, token):
    """Whatever an item holds, the name of another's giant included, it stays an item."""
    fill(store, b"G" * 2000)
    giant, _ = look(store, token)
    fill(store, giant.encode(), b"2")
    fill(store, b"H" * 2000)

    assert look(store, token)[1] == [giant.encode(), b"2"]
    assert aside(store) == [b"G" * 2000, b"H" * 2000]


def test_a_giant_is_read_in_pieces(store, token, monkeypatch):
    """All of it, whatever its length; one that was taken meanwhile is empty."""
    monkeypatch.setattr("rlm.ledger.quarantine.PIECE_BYTES", 300)
    large = [bytes(index % 256 for index in range(size)) for size in (1001, 1199, 1200, 1201)]
    for one in large:
        fill(store, one)
        look(store, token)

    assert aside(store) == large
    assert list(giants(store).pieces("unknown")) == []
    assert giants(store).size("unknown") == 0
