"""The first step of a folded chunk: which of its events are written folded, and which are known already."""

from __future__ import annotations

from random import Random

import pytest

from rlm.core.run import State
from tests.store import folding, looks, steps
from tests.store.folding import is_folded, staged
from tests.values import replace

pytestmark = pytest.mark.both_servers

EVENT = steps.event_id(1)


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


def take(store, token, run, *items):
    """Take items folded, which are staged behind an answer; return the numbers of taken events and of duplicates."""
    folding.stage(store, *items)
    return store.intake._take_chunk(token, folding.chunk_of(store, run, *items), 0, folding.before(store))()[:2]


def a_hash(store, token, run, item):
    folding.stage(store, item)
    assert store.intake._take_chunk(token, folding.chunk_of(store, run, item))()[0] == 1


def under_way(store, token, run, item):
    folding.take(store, token, run, item)
    steps.put_into(store, run, State.RUNNING)
    steps.claim_next(store, token, replace(run, state=State.RUNNING))
    steps.put_into(store, run, State.DRAINING)


def settled(store, token, run, item):
    folding.take(store, token, run, item)
    assert store.recovery.fail_unknown(token, run.id, steps.TYPE) == 1


@pytest.mark.parametrize("become", [a_hash, folding.take, under_way, settled])
def test_only_the_known_event_of_a_chunk_is_left_out(store, token, run, become):
    """It is a duplicate, and stays as it is; the others are folded, and the letters are written with them."""
    first, *items = steps.items(4, steps.TYPE)
    become(store, token, run, first)
    letters, before = len(looks.letters(store)), looks.snapshot(store)
    again = steps.item("i1", steps.TYPE, priority=100)

    assert take(store, token, run, items[0], again, b"bad", *items[1:]) == (3, 1)

    assert looks.snapshot(store)[store.keys.event(EVENT)] == before[store.keys.event(EVENT)]
    assert all(is_folded(store, steps.event_id(number)) for number in (2, 3, 4))
    placed = [EVENT] if looks.where(store, EVENT) == ["pending"] else []
    assert looks.pending(store) == [*placed, *(steps.event_id(number) for number in (2, 3, 4))]
    tally = looks.tally(store, run)
    assert (tally[f"taken:{steps.TYPE}"], tally["duplicates"], tally["invalid"]) == (4, 1, 1)
    assert [one["reason"] for one in looks.letters(store)[letters:]] == ["not_json"]
    assert staged(store) == []


def test_beside_a_known_event_strays_are_taken_as_hashes(store, token, run):
    """They are in the way of the others, too, none of which is written folded; each event is taken once."""
    items = steps.items(4, steps.TYPE)
    folding.take(store, token, run, items[0])
    folding.leave_strays(store, run, items[2])
    store.client.delete(store.keys.processing)

    assert take(store, token, run, *items, b"bad") == (3, 1)

    assert [is_folded(store, one) for one in steps.event_ids(4)] == [True, False, False, False]
    assert looks.pending(store) == steps.event_ids(4)
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 4, "duplicates": 1, "invalid": 1}
    assert staged(store) == []


@pytest.mark.parametrize(("items", "duplicates"), [((), 0), (steps.items(3, steps.TYPE), 3)], ids=["none", "all known"])
def test_a_chunk_without_a_new_event_leaves_staging(store, token, run, items, duplicates):
    """With its letters."""
    folding.take(store, token, run, *steps.items(3, steps.TYPE))
    before = looks.snapshot(store)

    assert take(store, token, run, b"bad", *items, b"worse") == (0, duplicates)

    after = looks.snapshot(store)
    assert {key for key in before | after if before.get(key) != after.get(key)} == {
        store.keys.failed,
        store.keys.tally(run.id),
    }
    assert looks.tally(store, run).get("duplicates", 0) == duplicates
    assert looks.tally(store, run)["invalid"] == len(looks.letters(store)) == 2


def test_a_folded_chunk_has_the_places_counts_and_letters_of_hashes(store, token, run, make_store):
    """Whichever of its events are known, of several types, some of which are another one's of the chunk."""
    other = make_store(redis={"prefix": f"{store.settings.redis.prefix}o"}, queue={"processing": store.keys.events})
    their_token = other.leases.acquire(steps.CONDUCTOR, 600)
    theirs = steps.open_run(other, their_token)
    random, types = Random(7), [one.name for one in store.settings.event_types][:4]
    seen = []

    for _ in range(12):
        of = [random.sample(types, random.randint(1, 4)) for _ in range(8)]
        items = [steps.item(f"i{random.randint(1, 60)}", *one, priority=random.randint(0, 3)) for one in of]
        items += random.choice([[], [b"bad"], [steps.item("i1", types[0], "No such type")]])
        random.shuffle(items)
        seen.append(take(store, token, run, *items))
        folding.stage(other, *items)
        assert other.intake._take_chunk(their_token, folding.chunk_of(other, theirs, *items))()[:2] == seen[-1]

    assert sum(duplicates > 0 for _, duplicates in seen) > 6
    found = [
        one.client.zrange(one.keys.pending(name), 0, -1, withscores=True) for one in (store, other) for name in types
    ]
    assert found[:4] == found[4:]
    assert looks.tally(store, run) == looks.tally(other, theirs)
    assert [one["reason"] for one in looks.letters(store)] == [one["reason"] for one in looks.letters(other)]
    folded, strays = folding.folded_events(store)
    assert (len(folded), strays) == (sum(new for new, _ in seen), set())
