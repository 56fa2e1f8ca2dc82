"""Turns with events that cannot be sent, or of which workers died: the former fail, the latter are carried alone."""

from __future__ import annotations

import pytest

from rlm.ledger.recovery import OUT_OF_THE_WAY, POISON_DEATHS
from tests.store import looks, steps

pytestmark = pytest.mark.both_servers


def spoil(store, how):
    """Damage the hash of the first event so that it cannot be sent."""
    key = store.keys.event(steps.event_id(1))
    if how == "gone":
        store.client.delete(key)
    elif how == "no hash":
        store.client.delete(key)
        store.client.set(key, "no hash")
    elif how in {"item", "wallet", "score"}:
        store.client.hdel(key, how)
    else:
        field, value = how.split("=")
        store.client.hset(key, field, value)


WAYS = ["gone", "no hash", "item", "wallet", "score", "score=x", "claims=-1", "attempt=1.5", f"trail={'9' * 16}"]
WAYS += ["deaths=", "unsent=1e3", "tries=x", "runs=x"]


@pytest.mark.parametrize("how", WAYS)
def test_what_cannot_be_sent_goes_out_of_the_way_and_is_condemned(store, token, running, how):
    """The lane claims the next event; the conductor makes a dead letter of the other, once."""
    run = running(2)
    spoil(store, how)

    claim = steps.claim_next(store, token, run)

    assert claim.event_id == steps.event_id(2)
    assert store.client.zscore(store.keys.pending(steps.TYPE), steps.event_id(1)) == OUT_OF_THE_WAY
    store.recovery.condemn_unsound(token, run.id, store.known_types)
    (letter,) = looks.letters(store)
    assert (letter["event_id"], letter["reason"]) == (steps.event_id(1), "bad_value")
    assert looks.pending(store) == []
    assert looks.tally(store, run)[f"failed:{steps.TYPE}"] == 1
    with looks.nothing_changes(store):
        store.recovery.condemn_unsound(token, run.id, store.known_types)


def test_one_that_nobody_has_condemned_yet_holds_nobody_up(store, token, running):
    """Its call is dropped, and it is looked at no second time."""
    run = running(1)
    spoil(store, "gone")
    steps.release(store, token, run, 2)
    assert steps.turn(store, run).why == "none"
    steps.release(store, token, run)

    with looks.nothing_changes(store, store.keys.releases):
        assert steps.turn(store, run).why == "none"


def test_sound_events_are_not_condemned(store, token, running):
    """However late they come in their order."""
    run = running(3)

    with looks.nothing_changes(store):
        store.recovery.condemn_unsound(token, run.id, store.known_types)


@pytest.fixture
def run(store, token, running):
    """A run with three events, the first of which is one death short of poison."""
    run = running(3)
    for death in range(POISON_DEATHS - 1):
        assert not steps.claim_next(store, token, run, f"dead-{death}").alone
        assert store.recovery.orphan_worker(f"dead-{death}") == 1
    return run


@pytest.mark.parametrize("with_slot", [False, True])
def test_an_event_one_death_short_of_poison_is_to_be_carried_alone(store, token, run, with_slot):
    """Without a slot, for its lane waits first, in a lease of twice the length; its note says that it waits."""
    before = looks.redis_us(store)

    claim = steps.claim_next(store, token, run, with_slot=with_slot, lease_seconds=20)

    assert (claim.event_id, claim.alone, claim.stamp) == (steps.event_id(1), True, "")
    assert looks.calls(store, "worker-1") == {claim.event_id: "1:-"}
    assert store.windows.stamps(store.settings.endpoints[steps.ENDPOINT], 10) == []
    lease = -store.client.zscore(store.keys.inflight(steps.TYPE), claim.event_id)
    assert before + 40_000_000 <= lease <= looks.redis_us(store) + 40_000_000


def test_the_next_events_are_claimed_as_ever(store, token, run):
    """It is the worker that sees to it that they do not go beside it."""
    steps.claim_next(store, token, run)

    claim = steps.claim_next(store, token, run, lane=2)

    assert (claim.event_id, claim.alone) == (steps.event_id(2), False)


def test_one_that_waits_is_given_back_as_any(store, token, run):
    """Another worker may be free sooner: it is to be carried alone there too."""
    assert store.ledger.give_back(steps.claim_next(store, token, run))

    assert looks.pending(store) == steps.event_ids(3)
    assert steps.claim_next(store, token, run, "worker-2").alone
    assert looks.calls(store, "worker-1") == {}


def test_a_lease_that_ends_while_it_waits_is_no_death(store, token, run):
    """Its worker has not begun with it."""
    claim = steps.claim_next(store, token, run, lease_seconds=0)
    due = looks.redis_us(store)
    while not store.recovery.orphan_expired([steps.TYPE], looks.redis_us(store)):
        assert looks.redis_us(store) < due + 10_000_000

    assert looks.event(store, claim.event_id)["deaths"] == str(POISON_DEATHS - 1)
    assert looks.where(store, claim.event_id) == ["pending"]
