"""peek_items: the oldest staged items are read, up to a number of bytes, and stay where they are.

It carries no token: it changes nothing, and take_chunk checks what was read.
"""

from __future__ import annotations

from rlm.store.scripts import Script
from tests.store import looks, steps

SCRIPT = Script("peek_items")


def peek(store, count=200, size=1_000_000):
    return SCRIPT(store.client, [store.keys.processing], [count, size])


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
