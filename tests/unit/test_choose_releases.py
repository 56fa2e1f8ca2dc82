"""What is released when: lanes and free slots divided, by example."""

from __future__ import annotations

import math
import random

import pytest

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.core.expected import Expected, needed_seconds
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.plan.choose_releases import (
    AHEAD_SECONDS,
    BURST_LANES,
    MOST_AHEAD,
    ReleaseState,
    can_send,
    choose_releases,
    next_look_seconds,
    next_slot_seconds,
    short_of_lanes,
)
from tests.each import each
from tests.values import replace


def endpoint(name):
    return Endpoint(name, f"http://127.0.0.1:1/{name}", Limit.parse("30/minute"), timeout_seconds=10)


HIGH = EventType("HIGH", 5, 2.0, (endpoint("high"), endpoint("high_over")))
LOW = EventType("LOW", 1, 1.0, (endpoint("low"),))
TYPES = (HIGH, LOW)
SHUT = WindowState(0, 7.0, 0.0)


def views(**free):
    """Return views of all endpoints: the given free slots, the others shut for 7 s."""
    return {one: WindowState(free[one], 0.0, 0.0) if one in free else SHUT for one in ("high", "high_over", "low")}


def counts(high=None, low=None):
    return {"HIGH": high or Counts(), "LOW": low or Counts()}


def choose(found, windows, *, lanes=100, remaining=60.0):
    return choose_releases(ReleaseState(found, windows, lanes, remaining), TYPES)


def may_send(found, windows, remaining):
    return can_send(ReleaseState(found, windows, 100, remaining), TYPES)


def next_slot(found, windows):
    return next_slot_seconds(ReleaseState(found, windows, 100, 60.0), TYPES)


def test_what_is_pending_goes_to_the_free_slots():
    """Each type gets as many releases as it has events, slots and lanes for, the primary's first."""
    chosen = choose(counts(Counts(pending=4), Counts(pending=1)), views(high=3, high_over=5, low=5))

    assert chosen == {"HIGH": ["high", "high", "high", "high_over"], "LOW": ["low"]}


def test_no_slot_no_release():
    """A type whose windows are shut gets no lane, and leaves them to the next type."""
    chosen = choose(counts(Counts(pending=4), Counts(pending=4)), views(low=2), lanes=2)

    assert chosen == {"LOW": ["low", "low"]}


def test_lanes_go_to_the_higher_priority_first():
    """With fewer lanes than events the type that comes first takes them."""
    chosen = choose(counts(Counts(pending=2), Counts(pending=9)), views(high=9, low=9), lanes=3)

    assert chosen == {"HIGH": ["high", "high"], "LOW": ["low"]}


def test_busy_lanes_are_not_given_out():
    """Events released and in flight hold a lane each, of whatever type they are."""
    busy = counts(Counts(pending=9, inflight=2), Counts(pending=9, released=2))

    assert choose(busy, views(high=9, low=9), lanes=5) == {"HIGH": ["high"]}


def test_what_is_released_counts_against_the_free_slots():
    """Slots that a released event is going to take are not promised again, to its own type or another."""
    chosen = choose(counts(Counts(pending=9, released=2)), views(high=3, high_over=1))

    assert chosen == {"HIGH": ["high", "high_over"]}


def test_what_is_claimed_and_has_no_slot_yet_counts_against_the_free_slots():
    """An event in flight takes a free slot until it has one of its own; those that have one take no more."""
    chosen = choose(counts(Counts(pending=9, released=1, inflight=5, boarding=2)), views(high=3, high_over=2))

    assert chosen == {"HIGH": ["high_over", "high_over"]}


def test_what_does_not_fit_before_the_deadline_is_not_released():
    """A type is released only while its expected call, and the way of its answer, fit in what is left of the run."""
    found = counts(Counts(pending=1), Counts(pending=1))

    assert choose(found, views(high=9, low=9), remaining=needed_seconds(HIGH, "high", {})) == {
        "HIGH": ["high"],
        "LOW": ["low"],
    }
    assert choose(found, views(high=9, low=9), remaining=2.0) == {"LOW": ["low"]}


def test_lanes_about_to_fall_free_are_counted_on():
    """So many calls under way that one ends while a message is on its way: one more is released than lanes are free."""
    enough = math.ceil(HIGH.processing_seconds / AHEAD_SECONDS)

    assert choose(counts(Counts(pending=9, inflight=enough)), views(high=9), lanes=enough) == {"HIGH": ["high"]}
    assert choose(counts(Counts(pending=9, inflight=enough - 1)), views(high=9), lanes=enough - 1) == {}


@each("seed", range(50))
def test_no_slot_lane_or_event_is_promised_twice(seed):
    """Never more is chosen than there are slots, lanes and events, and nothing is left out that would fit."""
    rng = random.Random(seed)
    found = {name: Counts(rng.randint(0, 9), rng.randint(0, 3), rng.randint(0, 3)) for name in ("HIGH", "LOW")}
    windows = views(high=rng.randint(0, 5), high_over=rng.randint(0, 5), low=rng.randint(0, 5))
    lanes = rng.randint(0, 20)

    chosen = choose(found, windows, lanes=lanes)

    busy = sum(one.released + one.inflight for one in found.values())
    assert sum(map(len, chosen.values())) <= max(0, lanes - busy)
    left = lanes - busy
    for event_type in TYPES:
        count, names = found[event_type.name], chosen.get(event_type.name, [])
        slots = sum(windows[one.name].free for one in event_type.endpoints)
        assert len(names) == max(0, min(count.pending, slots - count.released, left))
        assert all(names.count(one.name) <= windows[one.name].free for one in event_type.endpoints)
        left -= len(names)


@pytest.mark.parametrize("under_way", [Counts(released=1), Counts(inflight=1)])
def test_something_under_way_may_still_be_sent(under_way):
    """If it fails it is tried again, whatever the windows say, for as long as another call fits before the deadline."""
    needed = min(needed_seconds(LOW, one.name, {}) for one in LOW.endpoints)

    assert may_send(counts(low=under_way), views(), needed)
    assert not may_send(counts(low=under_way), views(), needed - 0.001)  # its call is awaited where the run is finished


@pytest.mark.parametrize("nothing", [Counts(), Counts(spent=3)])
def test_with_nothing_open_nothing_can_be_sent(nothing):
    """A run whose events are settled, or spent for this run, is over."""
    assert not may_send(counts(nothing, nothing), views(high=9, low=9), 60.0)


@pytest.mark.parametrize("waiting", [Counts(pending=1), Counts(backoff=1)])
def test_an_event_can_be_sent_if_a_slot_comes_in_time(waiting):
    """The earliest slot of any of its endpoints, and what a call after it needs, must fit before the deadline."""
    assert may_send(counts(waiting), views(high_over=1), needed_seconds(HIGH, "high", {}))
    assert may_send(counts(waiting), views(), 7 + needed_seconds(HIGH, "high", {}))
    assert not may_send(counts(waiting), views(), 9.0)
    assert not may_send(counts(waiting), views(high=1), 2.0)


@pytest.mark.parametrize(
    ("found", "windows", "short"),
    [
        (counts(Counts(pending=1)), views(high_over=1), True),
        (counts(Counts(pending=1), Counts(pending=1)), views(low=1), True),
        (counts(Counts(pending=1)), views(low=1), False),
        (counts(Counts(inflight=5, backoff=2)), views(high=9), False),
    ],
    ids=["an overflow has a slot", "a lower type has a slot", "only another type has a slot", "nothing waits"],
)
def test_lanes_are_short_where_an_event_waits_for_nothing_else(found, windows, short):
    assert short_of_lanes(ReleaseState(found, windows, 5, 60.0), TYPES) is short


def test_the_next_slot_is_the_earliest_that_is_waited_for():
    """Only windows of types with pending events count; a free one is now."""
    apart = {"high": WindowState(0, 5.0, 0.0), "high_over": WindowState(0, 3.0, 0.0), "low": WindowState(0, 1.0, 0.0)}

    assert next_slot(counts(Counts(pending=1)), apart) == 3.0
    assert next_slot(counts(Counts(pending=1), Counts(pending=1)), apart) == 1.0
    assert next_slot(counts(Counts(pending=1)), views(high_over=1)) == 0.0


def test_lanes_that_are_idle_for_a_moment_are_given_more_than_one_quick_call_each():
    """Else all have made theirs before the next look, which finds them idle again, and so on to the end of the run."""
    found = counts(Counts(pending=900), Counts(pending=900))
    wide = {name: WindowState(900, 0.0, 0.0) for name in views()}
    pairs = ("HIGH", "high"), ("HIGH", "high_over"), ("LOW", "low")
    quick = {pair: Expected(0.005, 0.01) for pair in pairs}

    def number(**more):
        return sum(map(len, choose_releases(ReleaseState(found, wide, 20, 60.0, quick, **more), TYPES).values()))

    assert number() == BURST_LANES + 150
    assert number(turnaround_seconds=0.005) == BURST_LANES + 75
    assert number(turnaround_seconds=0.005, lag_seconds=0.05) == BURST_LANES + 300
    assert number(lag_seconds=60.0) == BURST_LANES + MOST_AHEAD * BURST_LANES


def test_the_next_look_can_wait_while_lanes_have_calls_ahead():
    """Until half of them are made; with a lane idle, or a slot waited for, it is as soon as that."""
    wide = {name: WindowState(900, 0.0, 0.0) for name in views()}

    def wait(found, windows, lag_seconds=0.0):
        return next_look_seconds(ReleaseState(found, windows, 20, 60.0, lag_seconds=lag_seconds), TYPES, most=0.05)

    ahead = counts(Counts(pending=900, released=10, inflight=20))
    assert (wait(ahead, wide), wait(ahead, wide, 0.01), wait(ahead, wide, 9.0)) == (0.025, pytest.approx(0.04), 0.05)
    assert wait(counts(Counts(pending=900, inflight=20)), wide) == 0.0
    assert wait(ahead, views()) == wait(counts(Counts(inflight=20)), wide) == 0.05


def test_a_type_goes_first_while_it_has_had_less_than_its_share():
    """A fifth of the calls is the low type's, as long as it has events and slots; the rest goes by priority."""
    low = EventType("LOW", 1, 1.0, LOW.endpoints, share=0.2)
    found = counts(Counts(pending=90), Counts(pending=90))

    def chosen(*, begun, free=99):
        scene = ReleaseState(found, views(high=99, low=free), 10, 60.0, begun=begun)
        return {name: len(names) for name, names in choose_releases(scene, (HIGH, low)).items()}

    assert chosen(begun={}) == {"LOW": 2, "HIGH": 8}
    assert chosen(begun={"HIGH": 4}) == {"LOW": 2, "HIGH": 8}  # a fifth of 14, and no part of a call
    assert chosen(begun={"HIGH": 40}) == {"LOW": 10}
    assert chosen(begun={"HIGH": 40, "LOW": 20}) == {"HIGH": 10}
    assert chosen(begun={"HIGH": 40}, free=1) == {"LOW": 1, "HIGH": 9}


@pytest.mark.parametrize("lanes", [3, 15, 100])
def test_a_share_is_of_the_calls_that_a_budget_allows_and_not_of_the_idle_lanes(lanes):
    """Slots of a common budget come one at a time: a type with a share of a quarter gets each fourth, then no more."""
    high, low = (
        replace(one, budget=Budget("acc", Limit.parse("12/minute"))) for one in (HIGH.endpoints[0], LOW.endpoints[0])
    )
    types = EventType("HIGH", 5, 2.0, (high,)), EventType("LOW", 1, 1.0, (low,), share=0.25)
    one_slot = {"high": WindowState(9), "low": WindowState(9), "acc": WindowState(1)}
    found, begun, order = counts(Counts(pending=60), Counts(pending=60)), {"HIGH": 0, "LOW": 0}, []

    for _ in range(12):
        ((name, _),) = choose_releases(ReleaseState(found, one_slot, lanes, 60.0, begun=dict(begun)), types).items()
        begun[name] += 1
        order.append(name)

    assert order == ["HIGH", "HIGH", "HIGH", "LOW"] * 3


def test_a_budget_is_promised_once():
    """Endpoints that share a budget get no more releases than it has slots, whatever their own windows have."""
    budget = Budget("account", Limit.parse("30/minute"))
    high = replace(HIGH, endpoints=tuple(replace(one, budget=budget) for one in HIGH.endpoints))
    low = replace(LOW, endpoints=tuple(replace(one, budget=budget) for one in LOW.endpoints))
    found = counts(Counts(pending=9, released=1), Counts(pending=9))
    windows = {**views(high=2, high_over=9, low=9), "account": WindowState(4, 0.0, 0.0)}

    assert choose_releases(ReleaseState(found, windows, 99, 60.0), (high, low)) == {
        "HIGH": ["high", "high_over", "high_over"]
    }


def test_a_used_up_budget_is_waited_for():
    """Where the budget's next slot comes later than the endpoint's, the budget's counts."""
    low = replace(LOW, endpoints=tuple(replace(one, budget=Budget("account", one.limit)) for one in LOW.endpoints))
    windows = {"low": WindowState(3, 0.0, 0.0), "account": WindowState(0, 4.0, 0.0)}
    scene = ReleaseState({"LOW": Counts(pending=1)}, windows, 5, 4.5)

    assert choose_releases(scene, (low,)) == {}
    assert next_slot_seconds(scene, (low,)) == 4.0
    assert not can_send(scene, (low,))
    assert can_send(replace(scene, remaining_seconds=6.0), (low,))


def test_an_endpoint_too_slow_for_what_is_left_is_passed_over():
    """Near the deadline a measured time decides for each endpoint: a slow one gets nothing, a fast one goes on."""
    measured = {("HIGH", "high"): Expected(8.0, 9.0), ("HIGH", "high_over"): Expected(0.5, 0.6)}
    found = counts(Counts(pending=9))
    scene = ReleaseState(found, views(high=5, high_over=2), 99, 5.0, measured)

    assert choose_releases(scene, TYPES) == {"HIGH": ["high_over", "high_over"]}
    assert not can_send(replace(scene, remaining_seconds=0.6), TYPES)
