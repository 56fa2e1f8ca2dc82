"""take_chunk: the oldest staged items become events, dead letters and counts, and leave staging, in one step."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.core.item import order_offset
from tests.store import looks, steps
from tests.wait import wait_until

GONE = -1


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


def fill(store, *items):
    """Stage items, the first being the oldest."""
    store.client.lpush(store.keys.processing, *items)


def take(store, token, run, *items):
    """Take these items, which were read from staging; return the number of taken events."""
    chunk = store.intake._chunks.write(run.id, items, steps.priorities(store))
    return store.intake._take_chunk(token, chunk)().taken


def staged(store):
    return store.client.lrange(store.keys.processing, 0, -1)[::-1]


def test_an_item_becomes_a_pending_event(store, token, run):
    """The event's hash has all that is needed to send it; its item is kept byte for byte."""
    raw = '{ "id":"i1","events":["REBALANCE_NEEDED"], "wallet_name":"кошелёк", "more":1.50 }'.encode()
    fill(store, raw)

    before = looks.redis_us(store) / 1_000_000

    assert take(store, token, run, raw) == 1

    event = looks.event(store, steps.event_id(1))
    assert before - 0.001 <= float(event.pop("taken_at")) <= looks.redis_us(store) / 1_000_000 + 0.001
    assert event == {
        "wallet": "кошелёк",
        "item": raw.decode(),
        "score": str(order_offset(5) + 1),
    }
    assert looks.where(store, steps.event_id(1)) == ["ready"]
    assert store.ledger.types() == [steps.TYPE]
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1}
    assert staged(store) == []


def test_the_items_behind_the_chunk_are_read_in_the_same_step(store, token, run):
    """Those behind the ones that were read already, up to one that is too large: that is for who sets it aside."""
    *items, giant = *steps.items(7, steps.TYPE), b"x" * (store.intake._longest + 1)
    fill(store, *items[:6], giant, items[6])
    chunk = store.intake._chunks.write(run.id, items[:2], steps.priorities(store))

    assert store.intake._take_chunk(token, chunk, 1)().each == items[3:6]
    assert store.intake._take_chunk(token, chunk, 1)().taken == GONE

    assert staged(store) == [*items[2:6], giant, items[6]]


def test_an_item_of_several_types_is_several_events(store, token, run):
    """They share the item; each is counted under its type."""
    raw = steps.item("i1", steps.TYPE, steps.OTHER_TYPE)
    fill(store, raw)

    assert take(store, token, run, raw) == 2

    for name in (steps.TYPE, steps.OTHER_TYPE):
        assert looks.pending(store, name) == [steps.event_id(1, name)]
        assert looks.event(store, steps.event_id(1, name))["item"] == raw.decode()
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1, f"taken:{steps.OTHER_TYPE}": 1}


def test_exactly_the_chunk_leaves_staging(store, token, run):
    """Younger items stay for the next chunk, in their order."""
    items = steps.items(250, steps.TYPE)
    fill(store, *items)

    assert take(store, token, run, *items[:100]) == 100

    assert staged(store) == items[100:]
    assert looks.pending(store) == steps.event_ids(100)


def test_a_repeated_call_changes_nothing(store, token, run):
    """After a lost reply the items are no longer at the end of staging, and the call says so."""
    items = steps.items(3, steps.TYPE)
    fill(store, *items, b"next")
    take(store, token, run, *items)

    with looks.nothing_changes(store):
        assert take(store, token, run, *items) == GONE


@pytest.mark.parametrize("read", [(b"other",), (b"one", b"other"), (b"two",), (b"one", b"two", b"")], ids=repr)
def test_a_chunk_that_is_not_what_is_staged_is_refused(store, token, run, read):
    """A single item that differs, or is missing, and nothing is written."""
    fill(store, b"one", b"two")

    with looks.nothing_changes(store):
        assert take(store, token, run, *read) == GONE


def test_bad_items_become_dead_letters_in_the_same_step(store, token, run):
    """Good and bad leave staging together; letters are counted as invalid."""
    good, unknown = steps.item("i1", steps.TYPE), steps.item("i2", "NOBODY_KNOWS", steps.TYPE)
    fill(store, b"bad", good, unknown)

    assert take(store, token, run, b"bad", good, unknown) == 2

    assert [(one["reason"], one["event_id"], one["run_id"]) for one in looks.letters(store)] == [
        ("not_json", None, run.id),
        ("unknown_type", "i2:NOBODY_KNOWS", run.id),
    ]
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 2, "invalid": 2}
    assert staged(store) == []


def test_the_first_of_two_equal_events_stands(store, token, run):
    """In a chunk, the second is a duplicate, whatever else its item says."""
    first, second = steps.item("i1", steps.TYPE, n=1), steps.item("i1", steps.TYPE, n=2, priority=100)
    fill(store, first, second)

    assert take(store, token, run, first, second) == 1

    assert looks.event(store, steps.event_id(1))["item"] == first.decode()
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1, "duplicates": 1}


@pytest.mark.parametrize("state", ["ready", "inflight", "backoff", "spent"])
def test_an_unsettled_event_makes_a_duplicate(store, token, running, state):
    """Wherever it is, the event that came first goes on undisturbed."""
    run, again = running(1), steps.item("i1", steps.TYPE, more="again")
    if state != "ready":
        claim = steps.claim(store)
    if state == "backoff":
        steps.fail(store, claim, "backoff", delay_us=60_000_000)
    if state == "spent":
        steps.fail(store, claim, "spent")
    before = looks.event(store, steps.event_id(1))
    fill(store, again)

    assert take(store, token, run, again) == 0

    assert looks.where(store, steps.event_id(1)) == [state]
    assert looks.event(store, steps.event_id(1)) == before


@pytest.mark.parametrize("settle", ["complete", "fail"])
def test_a_settled_event_makes_a_duplicate_until_it_is_forgotten(store, token, running, settle):
    """Once `queue.dedupe_seconds` are over the same event id is a new event."""
    run, raw = running(1), steps.items(1, steps.TYPE)[0]
    claim = steps.claim(store)
    if settle == "complete":
        steps.complete(store, claim)
    else:
        steps.reject(store, claim, "no")
    fill(store, raw, raw)

    assert take(store, token, run, raw) == 0
    store.client.pexpire(store.keys.event(claim.event_id), 1)  # an hour passes
    wait_until(lambda: not store.client.exists(store.keys.event(claim.event_id)))
    assert take(store, token, run, raw) == 1

    assert looks.where(store, claim.event_id) == ["ready"]
    event = looks.event(store, claim.event_id)
    assert set(event) == {"wallet", "item", "score", "taken_at"}
    assert event["score"] == str(order_offset(5) + 2)


def test_a_key_that_is_no_hash_is_no_event(store, token, run):
    """It is replaced: if it counted as the event, the item would be dropped as a duplicate."""
    raw = steps.items(1, steps.TYPE)[0]
    store.client.set(store.keys.event(steps.event_id(1)), "no hash")
    fill(store, raw)

    assert take(store, token, run, raw) == 1

    assert looks.event(store, steps.event_id(1))["item"] == raw.decode()
    assert looks.where(store, steps.event_id(1)) == ["ready"]


def test_the_order_is_by_priority_then_by_arrival(store, token, run):
    """An item without a priority has its type's own, 5; numbers of arrival grow over chunks."""
    first = [
        steps.item("i1", steps.TYPE, priority=0),
        steps.item("i2", steps.TYPE),
        steps.item("i3", steps.TYPE, priority=100),
        steps.item("i4", steps.TYPE, priority=5),
    ]
    second = [steps.item("i5", steps.TYPE, priority=100), steps.item("i6", steps.TYPE, priority=6)]
    fill(store, *first, *second)

    take(store, token, run, *first)
    take(store, token, run, *second)

    assert looks.pending(store) == [steps.event_id(number) for number in (3, 5, 6, 2, 4, 1)]


def test_a_closed_run_takes_nothing(store, token, run):
    """A drain that was late by a whole run is fenced, even with the right token."""
    items = steps.items(2, steps.TYPE)
    fill(store, *items)
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, wanted=0)
    steps.open_run(store, token)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        take(store, token, run, *items)


def test_an_empty_chunk_takes_nothing(store, token, run):
    """Staging and ledger stay as they are."""
    fill(store, *steps.items(1, steps.TYPE))

    assert take(store, token, run) == 0

    assert staged(store) == steps.items(1, steps.TYPE)
    assert looks.tally(store) == {}
