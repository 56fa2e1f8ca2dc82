"""The whole drain: waiting items become events, in their order, once each; bad ones become dead letters."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from rlm.ledger import intake
from tests.store import looks, steps
from tests.store.deadletters import close

pytestmark = pytest.mark.both_servers


def waiting(store):
    """Return the content of the audit list and of staging."""
    lists = (store.keys.events, store.keys.processing)
    return tuple(store.client.lrange(name, 0, -1)[::-1] for name in lists)


def test_what_is_no_longer_staged_as_it_was_read_is_read_again(store, token, run, monkeypatch):
    """Somebody took the oldest item, and put another one in: the others are taken, once each."""
    steps.push(store, *steps.items(4, steps.TYPE))
    decode, popped = intake.decode_item, []

    def pop_after_reading(raw):
        if not popped:
            popped.append(store.client.rpop(store.keys.processing))
            store.client.lpush(store.keys.processing, steps.item("i5", steps.TYPE))
        return decode(raw)

    monkeypatch.setattr(intake, "decode_item", pop_after_reading)

    assert steps.drain(store, token, run) == 4

    assert popped == steps.items(1, steps.TYPE)
    assert looks.pending(store) == steps.event_ids(5)[1:]


def test_large_items_make_small_chunks(store, token, run):
    """A chunk ends after a number of bytes, whatever the number of items."""
    steps.push(store, *[steps.item(f"i{number}", steps.TYPE, more="x" * 60_000) for number in range(1, 41)])

    chunks = list(store.intake.drain(token, run.id, steps.priorities(store)))

    assert sum(chunks) == 40
    assert (max(chunks) - 1) * 60_000 < intake.CHUNK_BYTES
    assert looks.pending(store) == steps.event_ids(40)


def test_a_second_drain_of_the_run_takes_nothing_new(store, token, run):
    """What comes after the first one waits for the next run."""
    steps.push(store, *steps.items(2, steps.TYPE))
    steps.drain(store, token, run)
    steps.push(store, steps.item("late", steps.TYPE))

    assert steps.drain(store, token, run) == 0

    assert waiting(store) == ([steps.item("late", steps.TYPE)], [])


def test_priority_decides_and_then_arrival(store, token, run):
    """An item without one has its type's own; the timestamp in the item decides nothing."""
    for number, priority in enumerate((1, None, 100, 5, None, 100, 0), start=1):
        fields = {} if priority is None else {"priority": priority}
        steps.push(store, steps.item(f"i{number}", steps.TYPE, timestamp=f"2023-12-2{9 - number}", **fields))

    steps.drain(store, token, run)

    assert looks.pending(store) == [steps.event_id(number) for number in (3, 6, 2, 4, 5, 1, 7)]


def test_leftovers_come_before_newcomers_of_the_same_priority(store, token, running):
    """And after newcomers of a higher one."""
    close(store, token, running(2))
    steps.push(store, steps.item("i3", steps.TYPE), steps.item("i4", steps.TYPE, priority=6))

    steps.drain(store, token, steps.open_run(store, token))

    assert looks.pending(store) == [steps.event_id(number) for number in (4, 1, 2, 3)]


@pytest.mark.usefixtures("small_chunks")
def test_duplicates_are_dropped_wherever_they_are(store, token, running):
    """In a chunk, over chunks, of events that are unsettled, completed or failed: the first one stands."""
    run = running(3)
    steps.complete(store, steps.claim(store))
    claim = steps.claim(store)
    steps.reject(store, claim, "no")
    close(store, token, run)
    new = [steps.item("new", steps.TYPE, steps.OTHER_TYPE, n=number) for number in range(3)]
    steps.push(store, *new, *steps.items(3, steps.TYPE))

    run = steps.open_run(store, token)
    assert steps.drain(store, token, run) == 2

    assert looks.tally(store) == {
        f"carried:{steps.TYPE}": 1,
        f"taken:{steps.TYPE}": 1,
        f"taken:{steps.OTHER_TYPE}": 1,
        "duplicates": 7,
    }
    assert json.loads(looks.event(store, f"new:{steps.TYPE}")["item"])["n"] == 0


def test_memory_does_not_follow_the_backlog(store, token, run):
    """3,000 items are drained in the memory of one chunk."""
    items = [steps.item(f"i{number}", steps.TYPE, more="x" * 1000) for number in range(1, 3001)]
    steps.push(store, *items)
    size = sum(map(len, items))

    tracemalloc.start()
    try:
        taken = steps.drain(store, token, run)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken == looks.counts(store).pending == 3000
    assert peak < size / 3


def bad(**changes):
    """Return a good item except for these fields; None removes a field."""
    document = {"id": "i1", "wallet_name": "w", "events": [steps.TYPE], **changes}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def test_items_too_large_are_moved_aside_unread(store, token, run):
    """One after the other, byte for byte, and the items around them are taken."""
    huge = steps.item("huge", steps.TYPE, more="x" * 10_000_000)
    large = [b"%d" % index + b"x" * 65_536 for index in range(3)]
    largest = steps.item("i1", steps.TYPE).ljust(65_536)
    steps.push(store, large[0], largest, huge, large[1], steps.item("i2", steps.TYPE), large[2])

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
