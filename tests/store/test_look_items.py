"""look_items: reads a page of the waiting items, oldest first, without removing it.

It needs no token, because it changes nothing.
"""

from __future__ import annotations

import pytest

from rlm.ledger.entries import Entries
from rlm.ledger.scripts import Script
from tests.store import looks, steps

SCRIPT = Script("look_items")


def look(store, skip=0, count=200, size=1_000_000, longest=1000, at_once=1):
    reading = {"skip": skip, "count": count, "bytes": size, "longest": longest, "at_once": at_once}
    return Entries.read(SCRIPT(store.client, list=store.keys.events, **reading)).each


def test_an_empty_list_has_nothing_to_read(store):
    """No list is an empty one, wherever one looks."""
    assert look(store) == []
    assert look(store, skip=5) == []


def test_one_item_is_read_byte_for_byte(store):
    """Whatever the audit system pushed comes back."""
    steps.push(store, b"\xff\x00\r\n")

    assert look(store) == [b"\xff\x00\r\n"]


@pytest.mark.parametrize("number", [1, 9, 10, 11, 25, 200])
@pytest.mark.parametrize("page", [1, 3, 10, 12])
def test_page_by_page_every_item_is_read_once(store, number, page):
    """In the order of arrival, whatever the length of the list and of the pages."""
    items = steps.items(number, steps.TYPE)
    steps.push(store, *items)

    read = []
    while found := look(store, skip=len(read), count=page):
        assert len(found) <= page
        read += found

    assert read == items


def test_items_that_arrive_meanwhile_do_not_shift_the_pages(store):
    """They come in at the other end."""
    items = steps.items(4, steps.TYPE)
    steps.push(store, *items[:3])
    first = look(store, count=2)
    steps.push(store, items[3])

    assert first + look(store, skip=2) == items


def test_reading_stops_before_the_bytes_are_exceeded(store):
    """The item that would exceed them is left for the next page; one that fits exactly is read."""
    steps.push(store, b"1" * 40, b"2" * 60, b"3")

    assert look(store, size=99) == [b"1" * 40]
    assert look(store, size=100) == [b"1" * 40, b"2" * 60]
    assert look(store, skip=1, size=1) == [b"2" * 60]


def test_an_item_that_is_too_long_comes_back_empty(store):
    """It is counted, not carried; the longest that will be taken comes whole."""
    steps.push(store, b"1" * 1001, b"2" * 1000, b"")

    assert look(store) == [b"", b"2" * 1000, b""]


def test_what_is_passed_over_counts_as_read(store):
    """Each giant is a page of its own, so that no look holds Redis up for several."""
    steps.push(store, b"1", *[b"G" * 2000] * 3, b"2")

    pages = [look(store, skip=skip, size=1500) for skip in range(5)]

    assert pages == [[b"1"], [b""], [b""], [b""], [b"2"]]


def test_reading_changes_nothing_however_often(store):
    """The same items are there for whoever reads next."""
    steps.push(store, *steps.items(30, steps.TYPE))

    with looks.nothing_changes(store):
        pages = steps.at_once(*[lambda: look(store, skip=5, count=20)] * 10)

    assert pages == [steps.items(20, steps.TYPE, first=6)] * 10


def test_it_goes_on_where_it_was_however_many_were_taken(store):
    """The newest that are not read stay the same ones; with the page comes how many there are."""
    items = steps.items(10, steps.TYPE)
    steps.push(store, *items)
    look(store, 0, 4, 1000)

    store.client.rpop(store.keys.events, 3)

    assert store.intake.look(store.keys.events, -6, 2, 1) == (7, items[4:6])
    assert store.intake.look(store.keys.events, -9, 2, 1) == (7, items[3:5])
