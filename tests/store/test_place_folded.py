"""place_folded: a folded event that a lane put out of the way gets a place among the pending ones again, as a hash."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError, StoreError
from rlm.core.item import order_offset
from rlm.ledger.recovery import OUT_OF_THE_WAY
from rlm.ledger.scripts import Script
from tests.store import folding, looks, steps

SCRIPT = Script("place_folded")
EVENT = steps.event_id(1)


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


def put_back(store, token, event_id=EVENT, priority=5):
    keys = store.keys
    names = [keys.lease, keys.event(event_id), keys.pending(steps.TYPE), keys.sequence]
    return SCRIPT(store.client, names, [token, event_id, priority])


def out_of_the_way(store, *event_ids):
    """Put pending events out of the way, as a lane does that finds no hash."""
    for one in event_ids or (EVENT,):
        assert store.client.zadd(store.keys.pending(steps.TYPE), {one: OUT_OF_THE_WAY}, xx=True, ch=True) == 1


def place_of(store, event_id=EVENT):
    return int(store.client.zscore(store.keys.pending(steps.TYPE), event_id))


def claim(store, token, run):
    """Claim the first event once the run is running."""
    steps.put_into(store, run, "running")
    return steps.claim_next(store, token, run)


def test_it_is_pending_again_as_a_hash(store, token, run):
    """With all that was folded, behind all that were taken; nothing is counted."""
    raw = '{ "id":"i1","events":["REBALANCE_NEEDED"], "wallet_name":"ко 12 шелёк", "more":1.50 }'.encode()
    folding.take(store, token, run, raw)
    taken_at = store.client.get(store.keys.event(EVENT)).split()[0].decode()
    out_of_the_way(store)
    tally = looks.tally(store, run)

    assert put_back(store, token) == 1

    score = order_offset(5) + 2
    assert looks.event(store, EVENT) == {
        "wallet": "ко 12 шелёк",
        "item": raw.decode(),
        "score": str(score),
        "taken_at": taken_at,
    }
    assert (looks.where(store, EVENT), place_of(store)) == (["pending"], score)
    assert looks.tally(store, run) == tally
    assert claim(store, token, run).item == raw


@pytest.mark.parametrize(("own", "expected"), [({"priority": 0}, 0), ({"priority": 100}, 100), ({}, 7)])
def test_its_item_has_a_priority_of_its_own_or_else_that_of_its_type(store, token, run, own, expected):
    """As when it was taken."""
    folding.take(store, token, run, steps.item("i1", steps.TYPE, **own))
    out_of_the_way(store)

    put_back(store, token, priority=7)

    assert place_of(store) == order_offset(expected) + 2


def test_a_packed_item_has_the_priority_of_its_type(make_store, token):
    """Nobody can read it there; it is sent all the same."""
    store = make_store(queue={"compress": True})
    run, item = steps.open_run(store, token), steps.item("i1", steps.TYPE, priority=100, note="more of the same " * 9)
    folding.take(store, token, run, item)
    out_of_the_way(store)

    assert put_back(store, token) == 1

    assert place_of(store) == order_offset(5) + 2
    assert claim(store, token, run).item == item


def test_several_come_one_behind_the_other(store, token, run):
    """In the order in which they are put back; each is behind what was taken meanwhile."""
    folding.take(store, token, run, *steps.items(3, steps.TYPE))
    out_of_the_way(store, *steps.event_ids(2))

    put_back(store, token, steps.event_id(2))
    folding.take(store, token, run, *steps.items(1, steps.TYPE, first=4))
    put_back(store, token, steps.event_id(1))

    assert looks.pending(store) == [steps.event_id(number) for number in (3, 2, 4, 1)]


def test_twice_is_once(store, token, run):
    """The second time it is a hash, in its place."""
    folding.take(store, token, run, *steps.items(1, steps.TYPE))
    out_of_the_way(store)
    put_back(store, token)

    with looks.nothing_changes(store):
        assert put_back(store, token) == 0


def test_what_is_not_pending_or_not_folded_stays(store, token, run):
    """One without a place, a hash, a settled one, another string, a list, and none at all."""
    folding.leave_strays(store, run, *steps.items(1, steps.TYPE))
    ids = ["hash", "string", "list", "missing"]
    client, keys = store.client, store.keys
    client.hset(keys.event("hash"), mapping={"wallet": "w", "item": "{}", "score": "3"})
    client.set(keys.event("string"), "1.000 3 ab")  # its wallet's name is longer than all of it
    client.lpush(keys.event("list"), "1.000 1 ab")
    client.zadd(keys.pending(steps.TYPE), dict.fromkeys(ids, OUT_OF_THE_WAY))

    with looks.nothing_changes(store):
        assert [put_back(store, token, one) for one in [EVENT, *ids]] == [0] * 5


def test_a_stale_token_changes_nothing(store, token, run):
    """The successor may be of a version that knows better."""
    folding.take(store, token, run, *steps.items(1, steps.TYPE))
    out_of_the_way(store)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError, match="place_folded"):
        put_back(store, token)


@pytest.mark.parametrize("family", ["sequence", "pending"])
def test_a_damaged_key_is_refused_before_anything_is_changed(store, token, run, family):
    """It is mended first."""
    folding.take(store, token, run, *steps.items(1, steps.TYPE))
    out_of_the_way(store)
    damaged = store.keys.sequence if family == "sequence" else store.keys.pending(steps.TYPE)
    store.client.delete(damaged)
    store.client.rpush(damaged, "no such key")

    with looks.nothing_changes(store), pytest.raises(StoreError, match="WRONGTYPE"):
        put_back(store, token)


def test_of_ten_at_once_one_puts_it_back(store, token, run):
    """And the count of arrivals grows by one."""
    folding.take(store, token, run, *steps.items(1, steps.TYPE))
    out_of_the_way(store)

    assert sorted(steps.at_once(*[lambda: put_back(store, token)] * 10)) == [0] * 9 + [1]

    assert store.client.get(store.keys.sequence) == b"2"


def test_the_conductor_puts_back_what_lanes_of_an_older_version_could_not_send(store, token, run):
    """It is no dead letter, and nothing is set aside; a hash that cannot be sent is condemned as before."""
    folding.take(store, token, run, *steps.items(2, steps.TYPE))
    store.client.delete(store.keys.event(steps.event_id(2)))
    out_of_the_way(store, *steps.event_ids(2))

    store.recovery.condemn_unsound(token, run.id, store.known_types)

    assert looks.pending(store) == [EVENT]
    assert [one["event_id"] for one in looks.letters(store)] == [steps.event_id(2)]
    assert claim(store, token, run).event_id == EVENT
