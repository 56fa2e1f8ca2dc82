"""The books of an instant: they balance in every state of a run, and report what is wrong if they do not."""

from __future__ import annotations

import pytest

from rlm.core.trail import Counts
from rlm.ledger.reading.books import books, miscounted, take_snapshot
from tests.store.ledgers import OTHER_TYPE, TYPE, open_run, put
from tests.store.looks import redis_us
from tests.values import record_from

#: One event in each place.
PLACES = ("ready", "inflight", "backoff", "spent")


def account(store, name=TYPE):
    return books(store).by_type[name]


def count(store, **tally):
    for what, number in tally.items():
        store.client.hset(store.keys.tally, f"{what}:{TYPE}", number)


def test_without_anything_the_books_are_empty_and_balance(store):
    """Every configured type has an account."""
    found = books(store)

    assert found.run_id is None
    assert (found.events, found.staged, found.letters, found.unsettled) == (0, 0, 0, 0)
    assert list(found.by_type) == [one.name for one in store.settings.event_types]
    assert found.faults == []


def test_the_three_lists_are_counted(store):
    """Items, staged items and dead letters."""
    store.client.lpush(store.keys.events, b"1", b"2", b"3")
    store.client.lpush(store.keys.processing, b"1", b"2")
    store.client.lpush(store.keys.failed, b"1")

    found = books(store)

    assert (found.events, found.staged, found.letters) == (3, 2, 1)


def test_events_are_counted_where_they_are(store):
    """By type, which follows the last colon of their ids; those that spent their attempts apart."""
    for number, place in enumerate(PLACES):
        put(store, f"i:{number}:{TYPE}", place)
    put(store, f"i9:{OTHER_TYPE}", "backoff")

    found = store.ledger.count([TYPE, OTHER_TYPE, "NONE"])

    assert found == {TYPE: Counts(1, 1, 1, 1), OTHER_TYPE: Counts(backoff=1), "NONE": Counts()}
    assert (found[TYPE].unsettled, found[TYPE].open) == (4, 3)
    assert take_snapshot(store, [TYPE], [], []).counts == {TYPE: found[TYPE]}


def test_the_books_balance_wherever_events_are(store):
    """One event in each state; what came is what is accounted for."""
    run_id = open_run(store, staged="1")
    for number, place in enumerate(PLACES):
        put(store, f"i{number}:{TYPE}", place)
    count(store, taken=5, carried=1, completed=1, failed=1)

    found, one = books(store), account(store)

    assert (found.run_id, found.unsettled) == (run_id, 4)
    assert (one.taken, one.carried_over, one.completed, one.failed) == (5, 1, 1, 1)
    assert (one.difference, found.faults) == (0, [])


@pytest.mark.parametrize("taken", [3, 1])
def test_an_event_that_is_lost_or_stands_twice_is_noticed(store, taken):
    """The sentence has all numbers."""
    open_run(store)
    put(store, f"i1:{TYPE}", "ready")
    put(store, f"i2:{TYPE}", "ready")
    count(store, taken=taken)

    (told,) = books(store).faults

    assert told.startswith(f"{TYPE}: {taken} taken and 0 carried over, but 0 completed")
    assert told.endswith("2 unsettled")


@pytest.mark.parametrize("place", PLACES[1:])
def test_between_runs_nothing_may_be_under_way(store, place):
    """What only an open run may hold is a fault without one."""
    put(store, f"i1:{TYPE}", place)

    (fault,) = books(store).faults

    assert "no run is open" in fault


def test_a_type_that_is_no_longer_configured_has_its_account(store):
    """Its events are in the ledger until a run makes dead letters of them."""
    open_run(store)
    put(store, "i9:FORMER", "ready")

    found = books(store)

    assert found.by_type["FORMER"].unsettled == 1
    assert [fault.partition(":")[0] for fault in found.faults] == ["FORMER"]


@pytest.mark.parametrize(("ready", "tally", "faults"), [(2, {}, 0), (3, {}, 1), (4, {"taken": 3, "dropped": 1}, 0)])
def test_leftovers_of_a_record_are_in_the_ledger(store, ready, tally, faults):
    """And letters retried since, without leftovers dropped since; once another run was closed, nobody can tell."""
    record = record_from(run_id="r1", by_type={TYPE: {"leftover": 2}})
    store.client.hset(store.keys.records, "r1", "")
    for number in range(ready):
        put(store, f"i{number}:{TYPE}", "ready")
    count(store, **tally)

    assert len(miscounted(store, books(store), record)) == faults
    store.client.hset(store.keys.records, "r2", "")
    assert miscounted(store, books(store), record) == []


def test_the_calls_of_workers_are_read_with_type_endpoint_and_age(store):
    """Those of the named workers, all at one instant."""
    now = redis_us(store)
    store.client.hset(store.keys.held("w1"), mapping={"1": f"4 1 api {now - 3_000_000} i:1:T", "2": "9"})
    store.client.hset(store.keys.held("w2"), mapping={"1": f"4 1 api {now} i2:T"})

    (call,) = take_snapshot(store, ["T"], [], ["w1", "w3"]).calls

    assert (call.type, call.endpoint) == ("T", "api")
    assert call.age_seconds == pytest.approx(3.0, abs=0.5)
    assert store.processes.busy(["w1", "w2", "w3"]) == [1, 1, 0]
