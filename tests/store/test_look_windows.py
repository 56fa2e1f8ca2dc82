"""Looking at windows: the result agrees with a later request for a slot, and looking takes nothing."""

from __future__ import annotations

import random

import pytest

from rlm.core.window import WindowState
from tests.store import looks
from tests.store.windows import hold, look, make_budget, make_endpoint, pass_time, refusal, rest, take

GUARD = 0.5
#: What may pass between two looks of a test, seconds.
SOON = 2.0


def test_slots_are_counted_one_by_one_until_none_is_free(store):
    """Each call takes one of the free slots; at the last one the wait begins that the next call is told."""
    endpoint = make_endpoint("3 per 60 second")

    for free in (2, 1):
        take(store, endpoint)
        assert look(store, endpoint) == WindowState(free, 0.0, 0.0)

    take(store, endpoint)
    full = look(store, endpoint)
    assert full.free == 0
    assert full.rest_seconds == 0
    assert refusal(store, endpoint) <= full.wait_seconds <= 60 + GUARD


def test_looking_changes_nothing(store):
    """However often an endpoint is looked at, in whatever state, all keys stay as they were."""
    free, full, rested = (make_endpoint("2/minute", name) for name in ("free", "full", "rested"))
    take(store, full, 2)
    rest(store, rested, 20)

    with looks.nothing_changes(store):
        for _ in range(3):
            store.windows.look([free, full, rested])


def test_a_hold_is_told_apart_from_a_rest(store):
    """It is not for what the endpoint answered, so the endpoint is not suspect."""
    held, rested = make_endpoint(name="held"), make_endpoint(name="rested")
    hold(store, held, 20)
    rest(store, rested, 20)

    _, views = store.windows.look([held, rested])

    assert (views["held"].suspect, views["rested"].suspect) == (False, True)
    assert 20 - SOON < views["held"].held_seconds == views["held"].wait_seconds <= 20
    assert views["rested"].held_seconds == 0


def test_after_a_rest_one_probe_is_free(store):
    """Until its answer is known."""
    endpoint = make_endpoint("9/minute")
    rest(store, endpoint, 20)
    pass_time(store, endpoint, 21)

    view = look(store, endpoint)

    assert (view.free, view.wait_seconds, view.suspect) == (1, 0.0, True)


def test_a_budget_is_looked_at_beside_its_endpoints(store):
    """It has a view of its own; an endpoint's tells of its own window alone."""
    budget = make_budget("5 per 60 second")
    one, two = (make_endpoint("4/minute", name, budget=budget) for name in ("one", "two"))
    take(store, one, 3)
    take(store, two, 2)

    _, views = store.windows.look([one, two, budget])

    assert {name: view.free for name, view in views.items()} == {"one": 1, "two": 2, "account": 0}
    assert views["one"].wait_seconds == 0
    assert 60 - SOON < views["account"].wait_seconds <= 60 + GUARD
    assert store.windows.look([two])[1] == {"two": WindowState(2, 0.0, 0.0)}


@pytest.mark.parametrize("seed", range(2))
def test_what_is_seen_of_both_is_what_asking_finds(store, seed):
    """After any history of two endpoints and their budget: a call is admitted where both have a free slot, else not."""
    rng = random.Random(seed)
    budget = make_budget("4 per 10 second; 9 per 60 second")
    endpoints = [make_endpoint("3 per 10 second", name, budget=budget) for name in ("one", "two")]
    taken = dict.fromkeys(("one", "two"), 0)

    for _ in range(60):
        if rng.random() < 0.25:
            seconds = rng.choice((1, 4, 11, 31))
            for limited in (*endpoints, budget):
                pass_time(store, limited, seconds)
        endpoint = rng.choice(endpoints)
        _, views = store.windows.look([endpoint, budget])
        both = min(views[endpoint.name].free, views["account"].free)
        wait = store.windows.take(endpoint)
        assert (wait == 0) is (both > 0)
        if wait:
            seen = max(views[endpoint.name].wait_seconds, views["account"].wait_seconds)
            assert seen == pytest.approx(wait, abs=SOON)
        else:
            taken[endpoint.name] += 1

    assert min(taken.values()) > 3
