"""Beside folded events `take_chunk` does what it should: pending ones are known, those without a place are nobody's."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.core.item import order_offset
from rlm.ledger.quarantine import Quarantine
from rlm.ledger.recovery import OUT_OF_THE_WAY
from tests.store import deadletters, folding, looks, steps
from tests.store.folding import stage, staged

pytestmark = pytest.mark.both_servers


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


def take(store, token, run, *items):
    """Take these items, which are staged, as hashes; return the numbers of taken events and of duplicates."""
    return store.intake._take_chunk(token, folding.chunk_of(store, run, *items))()[:2]


def strings(store, *event_ids):
    return store.client.mget([store.keys.event(one) for one in event_ids])


def test_a_pending_folded_event_makes_a_duplicate(store, token, run):
    """It came first, and goes on undisturbed; also one that a lane put out of the way."""
    folding.take(store, token, run, *steps.items(2, steps.TYPE))
    store.client.zadd(store.keys.pending(steps.TYPE), {steps.event_id(2): OUT_OF_THE_WAY})
    again = [steps.item(f"i{number}", steps.TYPE, priority=100) for number in (1, 2, 3)]
    stage(store, *again)
    before = strings(store, *steps.event_ids(2))

    assert take(store, token, run, *again) == (1, 2)

    assert strings(store, *steps.event_ids(2)) == before
    assert looks.pending(store) == [steps.event_id(number) for number in (3, 1, 2)]
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 3, "duplicates": 2}


def test_a_stray_is_taken_anew_with_its_own_item(store, token, run):
    """By whoever takes its item: the id is the same, and what was written may be another's."""
    folding.leave_strays(store, run, steps.item("i1", steps.TYPE, n="of another", priority=100))
    store.client.delete(store.keys.processing)
    raw = steps.item("i1", steps.TYPE, n="its own")
    stage(store, raw)
    taken_at = strings(store, steps.event_id(1))[0][:14]

    assert take(store, token, run, raw) == (1, 0)

    event = looks.event(store, steps.event_id(1))
    assert float(event.pop("taken_at")) >= float(taken_at)
    assert event == {"wallet": "wallet of i1", "item": raw.decode(), "score": str(order_offset(5) + 1)}
    assert looks.where(store, steps.event_id(1)) == ["pending"]
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 1}
    assert staged(store) == []


def test_of_an_item_some_events_may_be_strays(store, token, run):
    """One is pending, one settled, one has no place, and one is new; each counts for what it is, in any order."""
    types = [one.name for one in store.settings.event_types][:4]
    pending, settled, stray, new = types
    folding.take(store, token, run, steps.item("i1", pending), steps.item("i1", settled))
    store.recovery.fail_unknown(token, run.id, settled)
    folding.leave_strays(store, run, steps.item("i1", stray))
    store.client.delete(store.keys.processing)
    raw = steps.item("i1", *types[::-1])
    stage(store, raw, b"bad")

    assert take(store, token, run, raw, b"bad") == (2, 2)

    assert {name: looks.where(store, steps.event_id(1, name)) for name in types} == {
        pending: ["pending"],
        settled: [],
        stray: ["pending"],
        new: ["pending"],
    }
    assert looks.event(store, steps.event_id(1, stray))["item"] == raw.decode()
    assert looks.tally(store, run) == {
        **{f"taken:{name}": 1 for name in types},
        f"failed:{settled}": 1,
        "duplicates": 2,
        "invalid": 1,
    }


def test_many_strays_are_taken_in_the_order_of_their_items(store, token, run):
    """Among new and known ones of several types, over all chunks."""
    items = steps.items(50, steps.TYPE, steps.OTHER_TYPE)
    folding.take(store, token, run, *items[10:20])
    for one in (*items[5:15:2], *items[30:]):
        stray = folding.chunk_of(store, run, one)
        store.intake._fold(stray, folding.before(store).at)
    stage(store, *items)

    assert take(store, token, run, *items) == (80, 20)

    order = [*range(11, 21), *range(1, 11), *range(21, 51)]
    for name in (steps.TYPE, steps.OTHER_TYPE):
        assert looks.pending(store, name) == [steps.event_id(number, name) for number in order]
        folded = [number for number in order if folding.is_folded(store, steps.event_id(number, name))]
        assert folded == [*range(11, 21)]
    assert staged(store) == []


def test_a_stray_of_which_the_item_is_kept_packed(make_store, token):
    """It is taken packed, as others are."""
    store = make_store(queue={"compress": True})
    run, item = steps.open_run(store, token), steps.item("i1", steps.TYPE, note="more of the same " * 9)
    folding.leave_strays(store, run, item)

    assert take(store, token, run, item) == (1, 0)

    steps.put_into(store, run, "running")
    assert store.client.hstrlen(store.keys.event(steps.event_id(1)), "item") < len(item) / 2
    assert steps.claim_next(store, token, run).item == item


@pytest.mark.parametrize(
    "held",
    ["no hash", "", "1.000 3 ab", "1.000 2 ab", "1.00 1 ab", "1 1 ab", "x1.000 1 ab", "1.000 -1 ab", "1.000 1ab", None],
)
def test_what_is_no_folded_event_is_refused(store, token, run, held):
    """It may be anything: nothing is written, also nothing of a stray in front of it, and the answer says which it is.

    A folded event has a time, the size of its wallet's name, and an item behind that.
    """
    items = steps.items(3, steps.TYPE)
    folding.leave_strays(store, run, items[0])
    stage(store, *items[1:])
    key = store.keys.event(steps.event_id(2))
    if held is None:
        store.client.lpush(key, "1.000 1 ab")
    else:
        store.client.set(key, held)
    chunk = folding.chunk_of(store, run, *items)
    keys, args = store.intake._chunks.hashes(chunk)

    with looks.nothing_changes(store):
        assert store.intake._run("take_chunk", keys, [token, 3, 0, 1, 1, *args]) == [-2, 2]

    assert steps.drain(store, token, run) == 3
    assert looks.pending(store) == steps.event_ids(3)
    assert [one.key for one in Quarantine(store).all()] == [key]


def test_a_stale_token_takes_no_strays(store, token, run):
    """They are left to the successor."""
    items = steps.items(2, steps.TYPE)
    folding.leave_strays(store, run, *items)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        take(store, token, run, *items)


def test_of_ten_that_take_strays_one_does(store, token, run):
    """The others find them gone from staging."""
    items = steps.items(20, steps.TYPE)
    folding.leave_strays(store, run, *items)

    assert sorted(steps.at_once(*[lambda: take(store, token, run, *items)] * 10)) == [(-1, 0)] * 9 + [(20, 0)]

    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 20}


def test_nobody_takes_a_stray_for_an_event(store, token, run):
    """Until it has a place it is not counted, claimed, failed or dropped."""
    folding.leave_strays(store, run, *steps.items(2, steps.TYPE))
    steps.put_into(store, run, "running")
    steps.release(store, token, run)

    with looks.nothing_changes(store, store.keys.releases):
        assert steps.turn(store, run).claim is None
        assert store.recovery.fail_unknown(token, run.id, steps.TYPE) == 0
        assert store.recovery.drop(steps.event_ids(2)) == (0, True)
        assert looks.counts(store).unsettled == 0


def test_a_stray_is_not_in_the_way_of_its_letter(store, token, letter):
    """A deposed conductor wrote it late: the failed event is retried, once, with the item of its letter."""
    store.client.delete(store.keys.event(steps.event_id(1)))  # forgotten: else the stray could not be there
    assert folding.write(store, steps.open_run(store, token), steps.item("i1", steps.TYPE, n="written late"))

    assert [deadletters.retry(store, letter) for _ in range(2)] == [True, False]

    assert looks.where(store, steps.event_id(1)) == ["retried"]
    assert looks.event(store, steps.event_id(1))["item"].encode() == steps.item("i1", steps.TYPE)
    assert looks.letters(store) == []


@pytest.mark.parametrize("retried", [False, True])
def test_where_others_are_lost_strays_stay(store, token, run, retried):
    """Folded ones were never there; what was there is a hash, and is found again."""
    items = steps.items(4, steps.TYPE)
    folding.take(store, token, run, items[0])
    stage(store, items[1])
    assert take(store, token, run, items[1]) == (1, 0)
    folding.leave_strays(store, run, *items[2:])
    store.client.zrem(store.keys.pending(steps.TYPE), steps.event_id(2))
    before = strings(store, *steps.event_ids(4)[2:])

    assert store.recovery.adopt(token, steps.TYPE, retried=retried, folded=False) == 1

    assert looks.where(store, steps.event_id(2)) == ["retried" if retried else "pending"]
    assert strings(store, *steps.event_ids(4)[2:]) == before
    assert [looks.where(store, one) for one in steps.event_ids(4)[2:]] == [[], []]
    assert take(store, token, run, *items[2:]) == (2, 0)
