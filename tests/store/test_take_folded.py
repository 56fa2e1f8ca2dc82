"""take_folded: the oldest staged items, whose events are written folded, get places and counts, and leave staging."""

from __future__ import annotations

import msgspec
import pytest

from rlm.core.errors import FencedError, StoreError
from rlm.core.item import order_offset
from rlm.ledger.intake import CHUNK_ITEMS
from tests.store import folding, looks, steps
from tests.store.folding import give_places, place, stage, staged, write

GONE = [-1]


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


def scores(store, type_name=steps.TYPE):
    """Return the pending events of a type with their scores, in their order."""
    found = store.client.zrange(store.keys.pending(type_name), 0, -1, withscores=True)
    return {one.decode(): int(score) for one, score in found}


def test_an_event_gets_its_place(store, token, run):
    """Behind all that were taken; its string stays as it is, and its type is known."""
    raw = '{ "id":"i1","events":["REBALANCE_NEEDED"], "wallet_name":"кошелёк", "more":1.50 }'.encode()
    store.client.set(store.keys.sequence, 41)
    folding.leave_strays(store, run, raw)
    event = store.keys.event(steps.event_id(1))
    kept = store.client.get(event)

    taken, duplicates, left, at, sizes, behind = place(store, token, run, raw)

    assert (taken, duplicates, left, msgspec.msgpack.decode(sizes), behind) == (1, 0, 0, [], b"")
    assert abs(float(at) - looks.redis_us(store) / 1_000_000) < 5
    assert scores(store) == {steps.event_id(1): order_offset(5) + 42}
    assert store.ledger.types() == [steps.TYPE]
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 1}
    assert staged(store) == []
    assert store.client.get(event) == kept


def test_it_has_the_places_that_take_chunk_gives(store, token, run, make_store):
    """The same scores, by priority and arrival over all types, whichever script gives them."""
    items = [
        steps.item("i1", steps.TYPE, priority=0),
        steps.item("i2", steps.TYPE, steps.OTHER_TYPE),
        steps.item("i3", steps.OTHER_TYPE, steps.TYPE, priority=100),
        steps.item("i4", steps.OTHER_TYPE, priority=5),
    ]
    other = make_store(redis={"prefix": f"{store.settings.redis.prefix}o"}, queue={"processing": store.keys.events})
    their_token = other.leases.acquire(steps.CONDUCTOR, 600)
    theirs = steps.open_run(other, their_token)
    stage(other, *items)
    chunk = folding.chunk_of(other, theirs, *items)
    assert other.intake._take_chunk(their_token, chunk)()[:2] == (6, 0)
    stage(store, *items)

    assert place(store, token, run, *items)[0] == 6

    for name in (steps.TYPE, steps.OTHER_TYPE):
        assert scores(store, name) == scores(other, name)
    assert looks.tally(store, run) == looks.tally(other, theirs)
    assert store.client.get(store.keys.sequence) == other.client.get(other.keys.sequence) == b"6"


def test_the_order_is_by_priority_then_by_arrival(store, token, run):
    """An item without a priority has its type's own, 5; numbers of arrival grow over chunks."""
    first = [steps.item(f"i{number}", steps.TYPE, priority=one) for number, one in enumerate((0, 5, 100), start=1)]
    second = [steps.item("i4", steps.TYPE), steps.item("i5", steps.TYPE, priority=100)]
    stage(store, *first, *second)

    place(store, token, run, *first)
    place(store, token, run, *second)

    assert looks.pending(store) == [steps.event_id(number) for number in (3, 5, 2, 4, 1)]


def test_it_comes_behind_hashes_of_the_same_priority(store, token, run):
    """And before those of a later chunk: both scripts count arrivals together."""
    items = steps.items(3, steps.TYPE)
    stage(store, *items)
    store.intake._take_chunk(token, folding.chunk_of(store, run, items[0]))()
    place(store, token, run, items[1])
    store.intake._take_chunk(token, folding.chunk_of(store, run, items[2]))()

    assert looks.pending(store) == steps.event_ids(3)


def test_exactly_the_chunk_leaves_staging(store, token, run):
    """Younger items stay for the next chunk, in their order; it says how many."""
    items = steps.items(250, steps.TYPE)
    stage(store, *items)

    assert place(store, token, run, *items[:100], read=CHUNK_ITEMS + 1)[:3] == [100, 0, 150]

    assert staged(store) == items[100:]
    assert looks.pending(store) == steps.event_ids(100)


def test_the_items_behind_the_chunk_are_read_in_the_same_step(store, token, run):
    """Those behind the ones that were read already, up to one that is too large: that is for who sets it aside."""
    *items, giant = *steps.items(7, steps.TYPE), b"x" * (store.intake._longest + 1)
    stage(store, *items[:6], giant, items[6])

    *_, sizes, behind = place(store, token, run, *items[:2], read=1)

    assert msgspec.msgpack.decode(sizes) == [len(one) for one in items[3:6]]
    assert behind == b"".join(items[3:6])
    assert staged(store) == [*items[2:6], giant, items[6]]


def test_no_more_is_read_where_enough_is_at_hand(store, token, run):
    """Memory does not follow the backlog."""
    items = steps.items(5, steps.TYPE)
    stage(store, *items)

    assert place(store, token, run, *items[:2], read=CHUNK_ITEMS + 1)[-1] == b""


def test_an_event_twice_in_the_chunk_is_counted_as_a_duplicate(store, token, run):
    """The first stands; both items leave staging."""
    items = [steps.item("i1", steps.TYPE), steps.item("i1", steps.TYPE, priority=100), steps.item("i2", steps.TYPE)]
    stage(store, *items)

    assert place(store, token, run, *items)[:2] == [2, 1]

    assert looks.pending(store) == steps.event_ids(2)
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, "duplicates": 1}
    assert staged(store) == []


def test_dead_letters_are_written_with_the_places(store, token, run):
    """And counted, the oldest item's first; it is refused with all the rest."""
    items = [b"bad", steps.item("i1", steps.TYPE), steps.item("i2", "No such type"), b"worse"]
    folding.leave_strays(store, run, *items)
    with looks.nothing_changes(store):
        assert give_places(store, token, run, *items, staged=3) == GONE

    assert give_places(store, token, run, *items)[:3] == [1, 0, 0]

    assert [one["reason"] for one in looks.letters(store)] == ["not_json", "unknown_type", "not_json"]
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 1, "invalid": 3}
    with looks.nothing_changes(store):
        assert give_places(store, token, run, *items, staged=4) == GONE


def test_events_that_a_fail_over_lost_get_no_places(store, token, run):
    """The replica may not have what was written last: places without events would be dead letters without items."""
    items = [*steps.items(3, steps.TYPE, steps.OTHER_TYPE), b"bad"]
    folding.leave_strays(store, run, *items)
    store.client.delete(*(store.keys.event(one) for one in folding.chunk_of(store, run, *items).ids))

    with looks.nothing_changes(store):
        assert give_places(store, token, run, *items) == GONE


def test_another_length_is_refused(store, token, run):
    """One item more or fewer than when they were read, even if it is of the other end: whose places are they?"""
    items = steps.items(3, steps.TYPE)
    stage(store, *items)
    write(store, run, *items[:2])

    with looks.nothing_changes(store):
        assert [place(store, token, run, *items[:2], staged=number) for number in (2, 4)] == [GONE, GONE]


@pytest.mark.parametrize(
    "read",
    [("i9", "i2"), ("i1", "i9"), ("i2", "i3"), ("i1", "i2", "i3", "i4")],
    ids=["another oldest", "another newest", "one further", "more than there are"],
)
def test_a_chunk_that_is_not_what_is_staged_is_refused(store, token, run, read):
    """It begins or ends with other items, as after a chunk whose answer was lost; nothing is written."""
    stage(store, *steps.items(3, steps.TYPE))
    items = [steps.item(one, steps.TYPE) for one in read]
    write(store, run, *items)

    with looks.nothing_changes(store):
        assert place(store, token, run, *items) == GONE


def test_a_repeated_call_changes_nothing(store, token, run):
    """After a lost reply the items are no longer there, and the call says so; and once staging is empty."""
    items = steps.items(3, steps.TYPE)
    stage(store, *items, b"next")
    place(store, token, run, *items, staged=4)

    with looks.nothing_changes(store):
        assert place(store, token, run, *items, staged=4) == GONE
    store.client.delete(store.keys.processing)
    with looks.nothing_changes(store):
        assert place(store, token, run, *items, staged=4) == GONE


def test_a_repeated_call_among_equal_items_changes_nothing(store, token, run):
    """The same items follow, of which all would be duplicates: the length tells that they are others."""
    items = steps.items(2, steps.TYPE)
    stage(store, *items, *items)
    place(store, token, run, *items, staged=4)

    with looks.nothing_changes(store):
        assert place(store, token, run, *items, staged=4) == GONE


def test_a_stale_token_writes_nothing(store, token, run):
    """A conductor whose lease another one took is fenced, with the chunk in its hands."""
    items = steps.items(2, steps.TYPE)
    folding.leave_strays(store, run, *items)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError, match="take_folded"):
        place(store, token, run, *items)


def test_a_closed_run_takes_nothing(store, token, run):
    """A drain that was late by a whole run is fenced, even with the right token."""
    items = steps.items(2, steps.TYPE)
    folding.leave_strays(store, run, *items)
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, [], wanted=0)
    steps.open_run(store, token)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        place(store, token, run, *items)


@pytest.mark.parametrize("family", ["types", "sequence", "tally", "failed", "pending", "pending of another type"])
def test_a_damaged_key_is_refused_before_anything_is_changed(store, token, run, family):
    """Whichever of those that it writes: else events would have places that are not counted, or no place."""
    items = [steps.item("i1", steps.TYPE, steps.OTHER_TYPE), steps.item("i1", steps.TYPE), b"bad"]
    folding.leave_strays(store, run, *items)
    keys = store.keys
    damaged = {
        "types": keys.types,
        "sequence": keys.sequence,
        "tally": keys.tally(run.id),
        "failed": keys.failed,
        "pending": keys.pending(steps.TYPE),
        "pending of another type": keys.pending(steps.OTHER_TYPE),
    }[family]
    store.client.delete(damaged)
    (store.client.sadd if family == "failed" else store.client.rpush)(damaged, "no such key")

    with looks.nothing_changes(store), pytest.raises(StoreError, match="WRONGTYPE"):
        place(store, token, run, *items)


def test_of_ten_conductors_with_the_same_chunk_one_takes_it(store, token, run):
    """With one token between them, the items are taken once and everybody else is told that they are gone."""
    items = steps.items(40, steps.TYPE, steps.OTHER_TYPE)
    stage(store, *items)

    replies = steps.at_once(*[lambda: place(store, token, run, *items, staged=40)[0]] * 10)

    assert sorted(replies) == [-1] * 9 + [80]
    assert looks.pending(store) == steps.event_ids(40)
    assert looks.pending(store, steps.OTHER_TYPE) == steps.event_ids(40, steps.OTHER_TYPE)
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 40, f"taken:{steps.OTHER_TYPE}": 40}
    assert staged(store) == []
