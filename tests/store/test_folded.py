"""Folded events, from their place to what becomes of them: whatever is done to one, it fares as a hash would."""

from __future__ import annotations

import hashlib

import pytest

from rlm.core.errors import FencedError
from rlm.core.item import Reason, order_offset
from rlm.ledger.folded import unfold
from rlm.ledger.quarantine import Quarantine
from rlm.ledger.recovery import OUT_OF_THE_WAY
from rlm.ledger.scripts import Part
from tests.store import deadletters, folding, looks, steps
from tests.values import replace

pytestmark = pytest.mark.both_servers

EVENT = steps.event_id(1)
ITEM = steps.item("i1", steps.TYPE, steps.OTHER_TYPE, wallet_name="ко 7 шелёк", note="more of the same " * 9)


@pytest.fixture
def folded(store, token):
    """A running run whose items were taken folded: `folded(*items)`."""

    def begin(*items, by=store):
        run = steps.open_run(by, token)
        folding.take(by, token, run, *items)
        steps.put_into(by, run, "running")
        return replace(run, state="running")

    return begin


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def either(request, make_store):
    """A store with `queue.compress` off, and on."""
    return make_store(queue={"compress": request.param})


def unfolded(store, event_id):
    """Return when a folded event was taken, and its item as it is kept."""
    event = unfold(event_id, store.client.get(store.keys.event(event_id)))
    return event[b"taken_at"], event[b"item"]


def close(store, token, run):
    """Close a run, and return its leftovers to what is pending."""
    deadletters.close(store, token, run)


def test_it_is_claimed_as_its_hash_would_be(either, token, folded):
    """The claim is the same, and so is what is left of it: a hash, with the score of its place."""
    run = folded(ITEM, by=either)
    taken_at, item = unfolded(either, EVENT)

    claim = steps.claim_next(either, token, run)

    assert (claim.item, claim.wallet_name, claim.number, claim.attempt) == (ITEM, "ко 7 шелёк", 1, 0)
    assert either.client.hgetall(either.keys.event(EVENT)) == {
        b"wallet": "ко 7 шелёк".encode(),
        b"item": item,
        b"score": b"%d" % (order_offset(5) + 2),  # behind that of the other type, which comes first by its name
        b"taken_at": taken_at,
        b"owner": b"worker-1",
        b"claims": b"1",
    }
    assert (len(item) < len(ITEM) / 2) == either.settings.queue.compress
    assert looks.where(either, EVENT) == ["inflight"]
    assert either.turns.complete(steps.completed(claim))
    assert looks.event(either, EVENT)["state"] == "completed"


def test_after_its_first_claim_it_goes_on_as_a_hash(store, token, folded):
    """Given back, tried again, spent: in its place, with what is counted of it."""
    run = folded(*steps.items(2, steps.TYPE))
    score = store.client.zscore(store.keys.pending(steps.TYPE), EVENT)

    assert store.ledger.give_back(steps.claim_next(store, token, run))
    assert looks.pending(store) == steps.event_ids(2)
    assert store.ledger.retry(steps.claim_next(store, token, run), steps.OVERFLOW, 0)
    assert store.recovery.promote([steps.TYPE], looks.redis_us(store)) == 1
    claim = steps.claim_next(store, token, run)
    assert (claim.event_id, claim.number, claim.attempt, claim.last_endpoint) == (EVENT, 3, 1, steps.OVERFLOW)
    assert store.ledger.spend(claim, steps.ENDPOINT)
    close(store, token, run)

    assert looks.pending(store) == steps.event_ids(2)
    assert store.client.zscore(store.keys.pending(steps.TYPE), EVENT) == score
    assert [folding.is_folded(store, one) for one in steps.event_ids(2)] == [False, True]


def test_what_was_never_claimed_is_left_over_folded(store, token, folded):
    """The next run carries it over and claims it, before newcomers of its priority."""
    close(store, token, folded(*steps.items(2, steps.TYPE)))
    steps.push(store, *steps.items(1, steps.TYPE, first=3))

    run = steps.start_run(store, token)

    assert looks.tally(store, run) == {f"carried:{steps.TYPE}": 2, f"taken:{steps.TYPE}": 1}
    assert [steps.claim_next(store, token, run).event_id for _ in range(3)] == steps.event_ids(3)


def test_a_worker_that_dies_with_it_loses_nothing(store, token, folded):
    """It is taken back, and back in its place."""
    run = folded(*steps.items(2, steps.TYPE))
    steps.claim_next(store, token, run)

    assert store.recovery.orphan_worker("worker-1") == 1

    assert looks.pending(store) == steps.event_ids(2)


def test_of_ten_lanes_each_claims_another(store, token, folded):
    """The first to come makes a hash of it; nobody else finds its string."""
    run = folded(*steps.items(10, steps.TYPE))
    steps.release(store, token, run, 20)

    turns = steps.at_once(*[lambda n=n: steps.turn(store, run, f"worker-{n % 3}", n).claim for n in range(1, 13)])

    claims = [one for one in turns if one]
    assert sorted(one.event_id for one in claims) == sorted(steps.event_ids(10))
    assert {one.number for one in claims} == {1}


@pytest.mark.parametrize("held", ["no event", "1.000 9 short", None], ids=repr)
def test_a_damaged_one_at_the_head_holds_up_nobody(store, token, folded, held):
    """The next one is claimed in the same turn; the conductor condemns it and keeps what its key holds."""
    run = folded(*steps.items(2, steps.TYPE))
    store.client.delete(store.keys.event(EVENT))
    if held is not None:
        store.client.set(store.keys.event(EVENT), held)

    assert steps.claim_next(store, token, run).event_id == steps.event_id(2)
    assert store.client.zscore(store.keys.pending(steps.TYPE), EVENT) == OUT_OF_THE_WAY
    store.recovery.condemn_unsound(token, run.id, store.known_types)

    (letter,) = looks.letters(store)
    assert (letter["event_id"], letter["reason"], letter["item"]) == (EVENT, Reason.BAD_VALUE, None)
    assert [one.key for one in Quarantine(store).all()] == ([store.keys.event(EVENT)] if held else [])
    assert looks.counts(store).pending == 0
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, f"failed:{steps.TYPE}": 1}


def test_a_lane_of_an_older_version_puts_it_out_of_the_way_and_the_conductor_puts_it_back(
    store, token, folded, monkeypatch
):
    """Such a lane claims hashes as ever; one of this version claims the others, and nothing is a dead letter."""
    run = folded(*steps.items(2, steps.TYPE))
    folding.stage(store, *steps.items(1, steps.TYPE, first=3))
    assert steps.drain(store, token, run) == 1
    with monkeypatch.context() as patch:
        turn = Part._script("take_turn")
        older = turn.source.replace(b"if told.err and unfold_event(", b"if false and unfold_event(")
        assert older != turn.source
        patch.setattr(turn, "source", older)
        patch.setattr(turn, "sha", hashlib.sha1(older, usedforsecurity=False).hexdigest())
        assert steps.claim_next(store, token, run, "older").event_id == steps.event_id(3)
        steps.release(store, token, run)
        assert steps.turn(store, run, "older").claim is None
    assert set(store.client.zrange(store.keys.pending(steps.TYPE), 0, -1, withscores=True)) == {
        (one.encode(), OUT_OF_THE_WAY) for one in steps.event_ids(2)
    }

    store.recovery.condemn_unsound(token, run.id, store.known_types)

    assert [steps.claim_next(store, token, run).event_id for _ in range(2)] == steps.event_ids(2)
    assert looks.letters(store) == []


@pytest.mark.parametrize("number", [1, 250])
def test_one_whose_type_is_no_longer_configured_becomes_a_dead_letter(either, token, folded, number):
    """With its item as it came; what is left of it is remembered, and a letter can be retried."""
    run = folded(ITEM, by=either)
    for first in range(2, number + 1, 83):
        items = steps.items(min(83, number + 1 - first), steps.TYPE, first=first)
        folding.take(either, token, run, *items)

    assert either.recovery.fail_unknown(token, run.id, steps.TYPE) == number

    letters = looks.letters(either)
    assert [one["event_id"] for one in letters] == steps.event_ids(number)
    assert letters[0]["item"] == steps.json.loads(ITEM)
    assert looks.tally(either, run)[f"failed:{steps.TYPE}"] == number
    left = looks.event(either, EVENT)
    assert (left["state"], left["wallet"], "item" in left) == ("failed", "ко 7 шелёк", False)
    assert 3_500_000 < either.client.pttl(either.keys.event(EVENT)) <= 3_600_000
    assert deadletters.drop(either, deadletters.newest(either))
    assert not either.client.exists(either.keys.event(steps.event_id(number)))


def test_without_dedupe_a_failed_one_is_forgotten(make_store, token, folded):
    """`queue.dedupe_seconds = 0` forgets an event at once."""
    store = make_store(queue={"dedupe_seconds": 0})
    run = folded(*steps.items(1, steps.TYPE), by=store)

    assert store.recovery.fail_unknown(token, run.id, steps.TYPE) == 1

    assert not store.client.exists(store.keys.event(EVENT))
    assert len(looks.letters(store)) == 1


def test_a_leftover_is_dropped_and_forgotten(store, token, folded):
    """If it is pushed again it is a new event."""
    items = steps.items(3, steps.TYPE)
    close(store, token, folded(*items))

    assert store.recovery.drop([steps.event_id(2)]) == (1, False)

    assert looks.pending(store) == [EVENT, steps.event_id(3)]
    assert not store.client.exists(store.keys.event(steps.event_id(2)))
    steps.push(store, *items)
    run = steps.start_run(store, token)
    assert looks.tally(store, run) == {f"carried:{steps.TYPE}": 2, f"taken:{steps.TYPE}": 1, "duplicates": 2}


def test_those_that_lost_their_places_are_found_again(either, token, folded):
    """Twice is once. By priority, as far as it can be read, then by id, behind hashes, which know their scores."""
    items = [steps.item(f"i{number}", steps.TYPE, priority=one) for number, one in enumerate((1, 9, 1, 9), start=1)]
    run = folded(*items, by=either)
    folding.stage(either, steps.item("i5", steps.TYPE, priority=1), steps.item("i6", steps.TYPE))
    assert steps.drain(either, token, run) == 2
    either.client.delete(either.keys.pending(steps.TYPE))

    assert [either.recovery.adopt(token, steps.TYPE) for _ in range(2)] == [6, 0]

    own = [2, 4, 6, 5, 1, 3]
    assert looks.pending(either) == [
        steps.event_id(number) for number in ([6, 1, 2, 3, 4, 5] if either.settings.queue.compress else own)
    ]
    assert all(folding.is_folded(either, steps.event_id(number)) for number in (1, 2, 3, 4))
    claims = [steps.claim_next(either, token, run) for _ in range(6)]
    assert {one.item for one in claims} >= set(items)


def test_a_deposed_conductor_finds_nothing_again(store, token, folded):
    """Its successor does."""
    folded(*steps.items(1, steps.TYPE))
    store.client.delete(store.keys.pending(steps.TYPE))

    with looks.nothing_changes(store), pytest.raises(FencedError):
        store.recovery.adopt(token - 1, steps.TYPE)


def test_a_letter_of_an_event_that_is_pending_is_not_retried(store, token, folded, letter):
    """It came again once the failed one was forgotten: it is unsettled, and dropping the letter forgets it not."""
    store.client.delete(store.keys.event(EVENT))
    folded(steps.item("i1", steps.TYPE, n="came again"))

    with looks.nothing_changes(store):
        assert not deadletters.retry(store, letter)
    with looks.nothing_changes(store, store.keys.failed):
        assert deadletters.drop(store, letter)


SETTLINGS = {
    "complete": lambda store, claim: store.turns.complete(steps.completed(claim)),
    "fail": lambda store, claim: store.ledger.fail(claim, Reason.REJECTED, "no", steps.ENDPOINT),
    "retry": lambda store, claim: store.ledger.retry(claim, steps.ENDPOINT, 1.0),
    "spend": lambda store, claim: store.ledger.spend(claim, steps.ENDPOINT),
    "throttle": lambda store, claim: store.ledger.throttle(claim, steps.ENDPOINT),
    "pass on": lambda store, claim: store.ledger.pass_on(claim, steps.ENDPOINT),
    "postpone": lambda store, claim: store.ledger.postpone(claim, 1.0),
    "give back": lambda store, claim: store.ledger.give_back(claim),
    "take back": lambda store, claim: store.recovery.orphan_worker(claim.worker_id),
    "hold": lambda store, claim: store.ledger.unclaim(claim.lane, claim.run_id, store.ledger.held_by(claim.lane)[0]),
}


@pytest.mark.parametrize("settle", SETTLINGS.values(), ids=SETTLINGS)
def test_a_claim_of_what_was_dropped_and_taken_anew_is_lost(store, token, folded, settle):
    """Its worker was frozen all that time; whatever it reports is refused, and does no harm to the new event."""
    run = folded(*steps.items(1, steps.TYPE))
    claim = steps.claim_next(store, token, run)
    close(store, token, run)
    assert store.recovery.drop([EVENT]) == (1, False)
    run = folded(*steps.items(1, steps.TYPE))
    kept = store.client.get(store.keys.event(EVENT))
    assert kept

    assert not settle(store, claim)

    assert store.client.get(store.keys.event(EVENT)) == kept
    assert looks.where(store, EVENT) == ["pending"]
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 1}
    assert steps.claim_next(store, token, run, "another").event_id == EVENT
