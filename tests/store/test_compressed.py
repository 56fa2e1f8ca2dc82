"""Compressed waiting items (`queue.compress`): every reader of an event gets the original item."""

from __future__ import annotations

import pytest

from rlm.core.item import Reason
from rlm.core.packing import unpack_item
from rlm.delivery.outcome import refuse_unsound
from rlm.ledger.reading.backlog import oldest_in_ledger
from rlm.ledger.recovery import POISON_DEATHS
from tests.store import looks, steps

pytestmark = pytest.mark.both_servers

ITEM = steps.item("i1", steps.TYPE, steps.OTHER_TYPE, timestamp="2026-11-28T10:15:00Z", note="more of the same " * 9)


@pytest.fixture
def compressing(make_store):
    """A store with `queue.compress` on."""
    return make_store(queue={"compress": True})


@pytest.fixture
def run(compressing, token):
    steps.push(compressing, ITEM, b"[]", steps.item("i2", steps.TYPE))
    return steps.start_run(compressing, token)


def kept(store, number=1, type_name=steps.TYPE):
    return store.client.hget(store.keys.event(steps.event_id(number, type_name)), "item")


def unpacked(store, number=1, type_name=steps.TYPE):
    return unpack_item(kept(store, number, type_name), steps.event_id(number, type_name), b"wallet of i%d" % number)


def test_each_event_has_its_own_item_packed(compressing, run):
    """Also behind one that is a dead letter; nothing else of an event is another."""
    assert looks.tally(compressing, run) == {f"taken:{steps.TYPE}": 2, f"taken:{steps.OTHER_TYPE}": 1, "invalid": 1}
    assert unpacked(compressing) == unpacked(compressing, 1, steps.OTHER_TYPE) == ITEM
    assert len(kept(compressing)) < len(ITEM) / 2
    assert unpacked(compressing, 2) == steps.item("i2", steps.TYPE)
    assert set(compressing.client.hkeys(compressing.keys.event(steps.event_id(1)))) == {
        *(b"wallet", b"item", b"score", b"taken_at")
    }


def test_a_lane_gets_it_as_it_came(compressing, store, token, run):
    """Whether its worker packs or not: the setting may have been changed since."""
    assert steps.claim_next(compressing, token, run).item == ITEM
    assert steps.claim_next(store, token, run).item == steps.item("i2", steps.TYPE)


def test_an_item_beside_which_another_wallet_stands_is_not_sent(compressing, token, run):
    """Unpacked with it, it would be another item."""
    compressing.client.hset(compressing.keys.event(steps.event_id(1)), "wallet", "another's")

    claim = steps.claim_next(compressing, token, run)

    assert claim.item == kept(compressing)
    assert refuse_unsound(compressing.ledger, claim) is not None


def test_a_dead_letter_holds_it_as_it_came(compressing, token, run):
    """Of an event whose workers died, whose hash is spoilt, or whose type is gone; it can be retried."""
    client, keys = compressing.client, compressing.keys
    client.hset(keys.event(steps.event_id(2)), "score", "x")
    for death in range(POISON_DEATHS):
        claim = steps.claim_next(compressing, token, run, f"worker-{death}")
        assert claim.event_id == steps.event_id(1)
        if claim.alone:
            assert compressing.ledger.begin_alone(claim)
        compressing.recovery.orphan_worker(f"worker-{death}")
    steps.release(compressing, token, run)
    assert steps.turn(compressing, run).claim is None
    compressing.recovery.condemn_unsound(token, run.id, compressing.known_types)
    compressing.recovery.fail_unknown(token, run.id, steps.OTHER_TYPE)

    letters = {(one["event_id"], one["reason"]): one["item"] for one in looks.letters(compressing)}
    item = steps.json.loads(ITEM)
    assert letters == {
        (None, Reason.NOT_OBJECT): [],
        (steps.event_id(1), Reason.POISON): item,
        (steps.event_id(2), Reason.BAD_VALUE): steps.json.loads(steps.item("i2", steps.TYPE)),
        (steps.event_id(1, steps.OTHER_TYPE), Reason.UNKNOWN_TYPE): item,
    }


def test_its_timestamp_says_since_when_it_waits(compressing, run):
    """As `rlm queue stats` shows it."""
    assert oldest_in_ledger(compressing, [steps.OTHER_TYPE]) == {steps.OTHER_TYPE: 1_795_860_900.0}


def test_an_item_pushed_twice_is_taken_once(compressing, token, run):
    """The event is what a duplicate is known by, not its item."""
    compressing.client.lpush(compressing.keys.processing, ITEM, steps.item("i3", steps.TYPE))

    assert steps.drain(compressing, token, run) == 1

    assert unpacked(compressing, 3) == steps.item("i3", steps.TYPE)
