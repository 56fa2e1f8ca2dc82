"""Giving an unused slot back, and blocking one whose call may arrive late."""

from __future__ import annotations

import pytest

from rlm.ledger.claims import Admitted, Call, LaneId
from tests.store import looks, steps
from tests.store.windows import (
    make_budget,
    make_endpoint,
    pass_time,
    refusal,
    set_clock_back,
    set_health,
    stamps,
    take,
)

CALL = Call(LaneId("w1", 1), "i1:T", "api")


@pytest.fixture
def endpoint():
    """An endpoint with three slots a minute."""
    return make_endpoint("3/minute")


def noted(store):
    """Read the note of the call."""
    found = store.client.hget(store.keys.calls(CALL.lane.worker_id), CALL.event_id)
    return None if found is None else found.decode()


def take_noted(store, endpoint, call=CALL):
    """Take a slot for a call whose event the worker has claimed."""
    store.client.hset(store.keys.calls(call.lane.worker_id), call.event_id, "")
    return store.windows.acquire(endpoint, call)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_slot_given_back_frees_exactly_that_one(store, endpoint, index):
    """Whichever slot is given back, its stamp goes and the others stay; one call is admitted for it."""
    slots = take(store, endpoint, 3)
    others = [int(slot.stamp) for slot in slots if slot is not slots[index]]

    store.windows.give_back(endpoint, slots[index])

    assert stamps(store, endpoint) == sorted(others, reverse=True)
    take(store, endpoint)
    refusal(store, endpoint)


def test_of_slots_with_one_stamp_one_is_given_back(store, endpoint):
    """Slots may share a stamp, as all those do that were ahead of a clock set back: giving one back frees one."""
    take(store, endpoint, 2)
    set_clock_back(store, endpoint, 3600)
    (slot,) = take(store, endpoint)
    assert stamps(store, endpoint) == [int(slot.stamp)] * 3

    store.windows.give_back(endpoint, slot)

    assert stamps(store, endpoint) == [int(slot.stamp)] * 2


def test_a_probe_that_was_not_sent_leaves_the_next_one_free(store, endpoint):
    """Else its endpoint stayed shut for as long as a call may take, though nobody had called it."""
    (earlier,) = take(store, endpoint)
    set_health(store, endpoint, probing=1)
    (probe,) = take(store, endpoint)

    store.windows.give_back(endpoint, earlier)
    refusal(store, endpoint)
    store.windows.give_back(endpoint, probe)

    (again,) = take(store, endpoint)
    assert again.suspect
    store.windows.give_back(endpoint, probe)
    refusal(store, endpoint)


def test_a_blocked_slot_counts_from_now(store, endpoint):
    """A slot blocked 40 s after it was taken is used for a whole period from then, and known by its new stamp."""
    slots = take(store, endpoint, 3)
    pass_time(store, endpoint, 40)
    aged = Admitted(str(int(slots[0].stamp) - 40_000_000), suspect=True)

    before = looks.redis_us(store)
    blocked = store.windows.block(endpoint, aged)

    assert before <= int(blocked.stamp) <= looks.redis_us(store)
    assert blocked.suspect
    found = stamps(store, endpoint)
    assert found[0] == int(blocked.stamp)
    assert found == sorted(found, reverse=True)
    assert len(found) == 3

    pass_time(store, endpoint, 21)
    take(store, endpoint, 2)
    assert 36 < refusal(store, endpoint) <= 39.5


def test_a_slot_that_is_gone_is_not_blocked(store, endpoint):
    """Blocking what was given back adds no slot."""
    slot, *_ = take(store, endpoint, 2)
    store.windows.give_back(endpoint, slot)

    assert store.windows.block(endpoint, slot).stamp == "0"

    assert len(stamps(store, endpoint)) == 1


def test_the_note_of_a_call_follows_its_slot(store, endpoint):
    """What is noted of the call names the stamp that the slot has now, so that it can be blocked if the worker dies."""
    slot = take_noted(store, endpoint)
    assert noted(store) == f"1:{endpoint.window_id}|{slot.stamp}|api"

    blocked = store.windows.block(endpoint, slot, CALL)
    assert noted(store) == f"1:{endpoint.window_id}|{blocked.stamp}|api"

    store.windows.give_back(endpoint, blocked, CALL)
    assert noted(store) == "1:"


def test_a_note_of_another_slot_is_kept_when_the_own_one_is_gone(store, endpoint):
    """Giving back a slot that is not there any more does not touch what is noted."""
    slot = take_noted(store, endpoint)
    store.windows.give_back(endpoint, slot)

    store.windows.give_back(endpoint, slot, CALL)

    assert noted(store) == f"1:{endpoint.window_id}|{slot.stamp}|api"


def test_an_event_whose_slot_was_given_back_is_without_one_again(store, token, running, endpoint):
    """It counts against the free slots once more, for it is about to take another."""
    claim = steps.claim_next(store, token, running(1))
    call = Call(claim.lane, claim.event_id, endpoint.name)
    assert looks.counts(store).boarding == 1
    slot = store.windows.acquire(endpoint, call)
    assert looks.counts(store).boarding == 0

    store.windows.give_back(endpoint, slot, call)

    assert looks.counts(store).boarding == 1
    assert looks.counts(store).inflight == 1


@pytest.fixture
def budget():
    """A budget of four slots a minute."""
    return make_budget("4/minute")


@pytest.fixture
def one(budget):
    """An endpoint that shares it, with three slots a minute."""
    return make_endpoint("3/minute", "one", budget=budget)


@pytest.fixture
def two(budget):
    """Another one."""
    return make_endpoint("3/minute", "two", budget=budget)


def test_a_slot_given_back_is_given_back_to_the_budget_too(store, budget, one, two):
    """Exactly that one: the others' stay, and one call is admitted for it."""
    slots = take(store, one, 3)
    (other,) = take(store, two)
    refusal(store, two)

    store.windows.give_back(one, slots[1])
    store.windows.give_back(one, slots[1])

    assert stamps(store, budget) == [int(slot.stamp) for slot in (other, slots[2], slots[0])]
    assert len(stamps(store, one)) == 2
    take(store, two)
    refusal(store, two)


def test_a_blocked_slot_counts_from_now_in_the_budget_too(store, budget, one, two):
    """It is known by the same new stamp in both, and both lists stay in order."""
    slots = take(store, one, 3)
    take(store, two)
    for limited in (budget, one):
        pass_time(store, limited, 40)

    before = looks.redis_us(store)
    blocked = store.windows.block(one, Admitted(str(int(slots[0].stamp) - 40_000_000)))

    assert int(blocked.stamp) >= before
    for limited, number in ((budget, 4), (one, 3)):
        found = stamps(store, limited)
        assert found[0] == int(blocked.stamp)
        assert found == sorted(found, reverse=True)
        assert len(found) == number
    pass_time(store, budget, 21)
    take(store, two, 2)
    assert 36 < refusal(store, make_endpoint("9/minute", "three", budget=make_budget("3/minute"))) <= 39.5


def test_the_note_of_a_call_names_the_budget_as_long_as_it_has_a_slot(store, budget, one):
    """It follows the slot like any other."""
    call = Call(CALL.lane, CALL.event_id, one.name)
    slot = take_noted(store, one, call)

    blocked = store.windows.block(one, slot, call)
    assert noted(store) == f"1:{one.window_id}|{blocked.stamp}|one|{budget.window_id}"

    store.windows.give_back(one, blocked, call)
    assert noted(store) == "1:"


def test_a_slot_blocked_from_a_while_ago_takes_its_place_among_the_others(store, endpoint):
    """A call that was read late counts from when it may have been read: between older slots and newer ones."""
    take(store, endpoint, 2)
    pass_time(store, endpoint, 4)
    take(store, endpoint)
    pass_time(store, endpoint, 1)
    newest, older, oldest = stamps(store, endpoint)

    moved = store.windows.block(endpoint, Admitted(str(oldest)), ago_seconds=2.5)

    assert stamps(store, endpoint) == [newest, int(moved.stamp), older]
    assert newest - int(moved.stamp) == pytest.approx(1_500_000, abs=200_000)


def test_a_slot_is_never_blocked_from_before_it_was_taken(store, endpoint):
    """However long ago it is said to count from, the slot's own stamp is the least."""
    (slot,) = take(store, endpoint)

    assert store.windows.block(endpoint, slot, ago_seconds=3600.0).stamp == slot.stamp
    assert stamps(store, endpoint) == [int(slot.stamp)]
