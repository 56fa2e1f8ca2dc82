"""The books of an instant: they balance in every state of a run, and report what is wrong if they do not."""

from __future__ import annotations

import pytest

from rlm.core.item import Reason
from rlm.ledger.claims import Completion
from rlm.ledger.reading.books import books
from tests.store import losses, steps
from tests.store.deadletters import retry


def account(store, name=steps.TYPE):
    return books(store).by_type[name]


def test_without_anything_the_books_are_empty_and_balance(store):
    """Every configured type has an account."""
    found = books(store)

    assert found.run_id is None
    assert (found.events, found.staged, found.letters, found.unsettled, found.retried) == (0, 0, 0, 0, 0)
    assert list(found.by_type) == [one.name for one in store.settings.event_types]
    assert found.faults == []


def test_the_three_lists_are_counted(store):
    """Items, staged items and dead letters."""
    steps.push(store, *steps.items(3, steps.TYPE))
    store.client.lpush(store.keys.processing, b"1", b"2")
    store.client.lpush(store.keys.failed, b"1")

    found = books(store)

    assert (found.events, found.staged, found.letters) == (3, 2, 1)


def test_the_books_balance_wherever_events_are(store, token, running):
    """One event in each state; what came is what is accounted for."""
    run = running(8)
    claims = [steps.claim_next(store, token, run) for _ in range(6)]
    steps.release(store, token, run)
    store.turns.complete(Completion(claims[0], steps.ENDPOINT, 0.1))
    store.ledger.fail(claims[1], Reason.REJECTED, "no", steps.ENDPOINT)
    store.ledger.retry(claims[2], steps.ENDPOINT, 60)
    store.ledger.spend(claims[3], steps.ENDPOINT)
    store.ledger.throttle(claims[4], steps.ENDPOINT)

    found, one = books(store), account(store)

    assert found.run_id == run.id
    assert (one.taken, one.carried_over, one.completed, one.failed) == (8, 0, 1, 1)
    counts = one.counts
    assert (counts.pending, counts.released, counts.inflight, counts.backoff, counts.spent) == (2, 1, 1, 1, 1)
    assert one.held == 3
    assert found.unsettled == 6
    assert one.difference == 0
    assert found.faults == []


@pytest.mark.parametrize("lose", losses.ALL.values(), ids=losses.ALL)
def test_the_books_balance_however_a_claim_was_lost(store, token, running, lose):
    """A worker that died, froze, or answers late changes nothing that does not add up."""
    run = running(2)
    claim = steps.claim_next(store, token, run)

    lose(store, token, run, claim)
    store.turns.complete(Completion(claim, steps.ENDPOINT, 0.1))

    assert books(store).faults == []


def test_the_books_are_of_one_instant(store, token, running):
    """Read while events move as fast as they can, they balance every time."""
    run = running(100)

    def work():
        for _ in range(100):
            store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.1))

    def read():
        return [books(store) for _ in range(100)]

    _, seen = steps.at_once(work, read)

    assert [fault for found in seen for fault in found.faults] == []
    assert account(store).completed == 100


def test_leftovers_are_carried_over_and_retried_letters_are_taken(store, token, running):
    """Between runs retried events are apart; when the next one opens, all of it is in its books."""
    run = running(3)
    failing = steps.claim_next(store, token, run)
    store.ledger.fail(failing, Reason.REJECTED, "no", steps.ENDPOINT)
    steps.finish(store, token, run)
    store.recovery.return_unsettled(run.id, [steps.TYPE])
    store.runs.close(run.id, {}, [steps.TYPE], wanted=0)
    (letter,) = store.letters.all()
    assert retry(store, letter)

    between = books(store)
    opened = steps.open_run(store, token)
    after = books(store)

    assert (between.run_id, between.unsettled, between.retried, between.faults) == (None, 2, 1, [])
    assert (after.run_id, after.unsettled, after.retried, after.faults) == (opened.id, 3, 0, [])
    assert (account(store).carried_over, account(store).taken) == (2, 1)


def test_an_event_that_is_lost_is_missed(store, running):
    """An event removed behind RLM's back is one too few, and the sentence has all numbers."""
    running(3)
    store.client.zpopmin(store.keys.pending(steps.TYPE))

    (fault,) = books(store).faults

    assert account(store).difference == 1
    assert fault.startswith(f"{steps.TYPE}: 3 taken and 0 carried over, but 0 completed")
    assert fault.endswith("1 too few")


def test_an_event_that_stands_twice_is_noticed(store, token, running):
    """One event in two states is one too many."""
    running(1)
    store.client.zadd(store.keys.spent(steps.TYPE), {steps.event_id(1): 1})

    (fault,) = books(store).faults

    assert fault.endswith("1 too many")


@pytest.mark.parametrize("state", ["inflight", "backoff", "spent"])
def test_between_runs_nothing_may_be_under_way(store, state):
    """What only an open run may hold is a fault without one."""
    store.client.zadd(getattr(store.keys, state)(steps.TYPE), {steps.event_id(1): 1})

    (fault,) = books(store).faults

    assert "no run is open" in fault
    assert account(store).held == 1


def test_a_type_that_is_no_longer_configured_has_its_account(store, running):
    """Its events are in the ledger until a run makes dead letters of them."""
    running(1)
    store.client.sadd(store.keys.types, "FORMER")
    store.client.zadd(store.keys.pending("FORMER"), {"i9:FORMER": 1})

    found = books(store)

    assert found.by_type["FORMER"].unsettled == 1
    assert [fault.partition(":")[0] for fault in found.faults] == ["FORMER"]
