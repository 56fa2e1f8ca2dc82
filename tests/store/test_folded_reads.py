"""Reads of folded events: of one instant, and right also if the event moves between two questions."""

from __future__ import annotations

import pytest

from rlm.core.errors import StoreGarbledError
from rlm.core.trail import Place
from rlm.ledger import folded
from rlm.ledger.folded import are_known, read_at_once, read_fields, unfold
from rlm.ledger.reading import event_state, fields_in
from rlm.ledger.reading.backlog import backlog, oldest_in_ledger, oldest_pending, ranks_in_ledger
from rlm.ledger.reading.waiting import EventFilter, Mark, waiting_page
from rlm.ledger.scripts import SOURCES
from tests.each import each
from tests.store import folding, looks, steps
from tests.unit.test_folded import ITEMS, NONE, SPELLINGS, WALLETS
from tests.values import replace

pytestmark = pytest.mark.both_servers

EVENT = steps.event_id(1)
FIELDS = ("wallet", "item", "taken_at", "score", "owner")


@pytest.fixture
def run(store, token):
    """A running run with two folded events."""
    run = steps.open_run(store, token)
    folding.take(store, token, run, *steps.items(2, steps.TYPE))
    steps.put_into(store, run, "running")
    return replace(run, state="running")


def key(store, number=1):
    return store.keys.event(steps.event_id(number))


def kept(store, number=1):
    event = unfold(steps.event_id(number), store.client.get(key(store, number)))
    return [event[b"wallet"], event[b"item"], event[b"taken_at"], None, None]


def claim(store, token, run):
    """Claim the first event, which makes a hash of it."""
    assert steps.claim_next(store, token, run).event_id == EVENT


def forget(store, token, run):
    """Let the first event be settled without being remembered."""
    claim(store, token, run)
    store.client.zrem(store.keys.inflight(steps.TYPE), EVENT)
    store.client.delete(key(store))


def spoil(store, token, run):
    """Write something else where the first event is."""
    store.client.set(key(store), "no event")


@pytest.fixture
def between(monkeypatch, store, token, run):
    """Let something happen after the first question of a read: `between("_run", claim)`."""

    def hook(name, happens):
        ask, asked = getattr(folded, name), []

        def asking(*args, **options):
            asked.append(args)
            try:
                return ask(*args, **options)
            finally:
                if len(asked) == 1:
                    happens(store, token, run)

        monkeypatch.setattr(folded, name, asking)
        return asked

    return hook


def test_hashes_folded_ones_and_missing_ones_are_read_together(store, token, run):
    """Each in its place; a folded one has no score of its own, and a hash costs one question."""
    claim(store, token, run)
    first = looks.event(store, EVENT)

    found = read_fields(store.client, [key(store, 2), key(store), key(store, 3)], *FIELDS)

    assert found == [kept(store, 2), [first[field].encode() for field in FIELDS], [None] * 5]
    assert read_fields(store.client, [], *FIELDS) == []


def test_hashes_are_read_in_one_round_trip(store, token, run, between):
    """As before there were folded events."""
    claim(store, token, run)
    asked = between("_run", lambda *_: None)

    read_fields(store.client, [key(store)], *FIELDS)

    assert [len(commands) for _, commands in asked] == [1, 0]


def test_one_that_is_claimed_while_it_is_read_is_read_as_a_hash(store, run, between):
    """The others are read as they were."""
    other = kept(store, 2)
    between("_run", claim)

    found = read_fields(store.client, [key(store), key(store, 2)], *FIELDS)

    event = looks.event(store, EVENT)
    assert event["owner"] == "worker-1"
    assert found == [[event[field].encode() for field in FIELDS], other]


def test_one_that_is_forgotten_while_it_is_read_has_no_fields(store, run, between):
    """As one that is not there."""
    between("_run", forget)

    assert read_fields(store.client, [key(store)], *FIELDS) == [[None] * 5]


def test_what_is_no_event_cannot_be_read(store, run, between):
    """A list, another string, and one that becomes that meanwhile."""
    store.client.lpush(key(store, 3), "x")
    with pytest.raises(StoreGarbledError):
        read_fields(store.client, [key(store, 2), key(store, 3)], *FIELDS)
    store.client.set(key(store, 4), "1.000 5 ab")
    with pytest.raises(StoreGarbledError):
        read_fields(store.client, [key(store, 2), key(store, 4)], *FIELDS)
    between("_run", spoil)
    with pytest.raises(StoreGarbledError):
        read_fields(store.client, [key(store)], *FIELDS)


def places(store):
    """The commands that tell in which of two places the first event is."""
    return [("ZSCORE", zset(steps.TYPE), EVENT) for zset in (store.keys.pending, store.keys.inflight)]


def test_all_fields_and_other_answers_are_of_one_instant(store, run, between):
    """A hash takes one question, a folded event two, and one that is claimed between them three."""
    claiming = between("batch", claim)

    fields, (pending, inflight) = read_at_once(store.client, key(store), places(store))

    assert {name.decode(): value.decode() for name, value in fields.items()} == looks.event(store, EVENT)
    assert (fields[b"owner"], pending, inflight is not None) == (b"worker-1", None, True)
    assert len(claiming) == 3
    fields, (pending, inflight) = read_at_once(store.client, key(store), places(store))
    assert (fields[b"owner"], pending, inflight is not None, len(claiming)) == (b"worker-1", None, True, 4)
    folded_one, (score,) = read_at_once(
        store.client, key(store, 2), [("ZSCORE", places(store)[0][1], "i2:" + steps.TYPE)]
    )
    assert (folded_one, len(claiming)) == (unfold(steps.event_id(2), store.client.get(key(store, 2))), 6)
    assert score is not None


def test_one_that_is_forgotten_meanwhile_is_not_there(store, run, between):
    """The other answers are of when it was gone."""
    between("batch", forget)

    assert read_at_once(store.client, key(store), places(store)) == ({}, [None, None])


def test_what_is_no_event_cannot_be_read_at_once(store, run, between):
    """Nor what becomes that meanwhile."""
    store.client.lpush(key(store, 3), "x")
    store.client.set(key(store, 4), "1.000 5 ab")
    for number in (3, 4):
        with pytest.raises(StoreGarbledError):
            read_at_once(store.client, key(store, number), [])
    between("batch", spoil)
    with pytest.raises(StoreGarbledError):
        read_at_once(store.client, key(store), [])


def test_whoever_looks_while_lanes_claim_finds_each_event_in_one_place(store, token, run):
    """Pending without an owner, or in flight with one, and never neither."""
    folding.take(store, token, run, *steps.items(60, steps.TYPE, first=3))
    steps.release(store, token, run, 62)
    found = []

    def look():
        for _ in range(3):
            found.extend(event_state(store, one) for one in steps.event_ids(62))

    def turn(lane):
        for _ in range(31):
            assert steps.turn(store, run, "worker-1", lane).claim

    steps.at_once(look, look, lambda: turn(1), lambda: turn(2))

    assert {(one.place, bool(one.worker)) for one in found} <= {(Place.PENDING, False), (Place.IN_FLIGHT, True)}
    assert {event_state(store, one).place for one in steps.event_ids(62)} == {Place.IN_FLIGHT}


def test_one_without_a_place_is_nowhere(store, token, run):
    """It is nobody's: whoever takes its item writes it anew. A hash without a place is an event all the same."""
    folding.leave_strays(store, run, *steps.items(2, steps.TYPE, first=3))
    store.client.hset(key(store, 5), mapping={"wallet": "w", "item": "{}", "score": "1", "taken_at": "1.000"})

    assert [event_state(store, steps.event_id(number)) for number in (3, 4)] == [None, None]
    assert event_state(store, steps.event_id(5)).place is Place.NOWHERE


def test_which_events_are_known(store, token, run):
    """A hash, also a settled one, and a folded one in its place; not a stray, nor what is no event."""
    claim(store, token, run)
    folding.leave_strays(store, run, *steps.items(1, steps.TYPE, first=3))
    store.client.hset(key(store, 4), "state", "completed")
    store.client.lpush(key(store, 5), "x")
    pending = store.keys.pending(steps.TYPE)

    asked = [(key(store, number), pending, steps.event_id(number)) for number in range(1, 7)]

    assert are_known(store.client, asked) == [True, True, False, True, False, False]
    assert are_known(store.client, []) == []


def test_lua_unfolds_as_python_does(store, token, run):
    """Whatever is in the wallet's name and in the item; what is none to one is none to the other."""
    head, _, _ = SOURCES["place_folded"].partition(b"if not redis.call('ZSCORE'")
    script = head + b"return unfold_event(event, '7') and 1 or 0"
    names = [store.keys.lease, key(store, 9), store.keys.pending(steps.TYPE), store.keys.sequence]

    def unfolded(raw):
        store.client.set(key(store, 9), raw)
        return store.client.eval(script, 4, *names, token, EVENT, 5)

    spelt = [[(spelling % ("i9", wallet)).encode() + b'x"]}' for spelling in SPELLINGS] for wallet in WALLETS]
    cases = [(wallet, item) for wallet, own in zip(WALLETS, spelt, strict=True) for item in (*ITEMS, *own)]
    for raw in (folded.fold(steps.event_id(9), b"1703123456.789", wallet, item) for wallet, item in cases):
        assert unfolded(raw) == 1
        assert store.client.hgetall(key(store, 9)) == {**unfold(steps.event_id(9), raw), b"score": b"7"}
        store.client.delete(key(store, 9))
    for raw in NONE:
        assert unfolded(raw) == 0
        assert store.client.get(key(store, 9)) == raw


READERS = {
    "the oldest of all": lambda store, run: oldest_in_ledger(store, store.known_types),
    "the oldest pending": lambda store, run: oldest_pending(store, store.known_types),
    "ranks": lambda store, run: [
        ranks_in_ledger(store, name, one) for name in store.known_types for one in (run, None)
    ],
    "backlog": lambda store, run: (backlog(store).events, backlog(store).in_ledger),
    "pages": lambda store, run: waiting_page(store, EventFilter(), 20),
    "a page in the middle": lambda store, run: waiting_page(store, EventFilter(), 1, Mark("pending", steps.TYPE, 1)),
    "of a wallet": lambda store, run: waiting_page(store, EventFilter(wallet="wallet of i2"), 20),
    "states": lambda store, run: [replace(event_state(store, one), now=0.0) for one in steps.event_ids(3)],
    "fields": lambda store, run: list(fields_in(store, store.keys.pending(steps.TYPE), "wallet", "item", "taken_at")),
}


@pytest.fixture
def several(store, token, run):
    """Events of two types and three priorities, one with a time of its own."""
    more = {"priority": 100, "timestamp": "2026-11-28T10:15:00Z"}
    folding.take(store, token, run, steps.item("i3", steps.TYPE, **more), steps.item("i3", steps.OTHER_TYPE))
    return run


@each(("what", "read"), READERS.items())
def test_readers_find_the_same_whether_it_is_folded(store, several, what, read):
    """To the last digit."""
    of_folded = read(store, several)
    ids = [one for name in store.known_types for one in looks.pending(store, name)]
    kept = {one: store.client.get(store.keys.event(one)) for one in ids}
    for one in ids:
        score = store.client.zscore(store.keys.pending(one.rpartition(":")[2]), one)
        fields = {**unfold(one, kept[one]), b"score": b"%d" % score}
        store.client.delete(store.keys.event(one))
        store.client.hset(store.keys.event(one), mapping=fields)

    of_hashes = read(store, several)

    for one in ids:
        store.client.set(store.keys.event(one), kept[one])  # for the next reader
    assert of_folded == of_hashes, what
    assert of_folded
