"""Looking at windows: the result agrees with a later request for a slot, and looking takes nothing."""

from __future__ import annotations

import random

import pytest

from tests.store.windows import make_budget, make_endpoint, pass_time

#: What may pass between two looks of a test, seconds.
SOON = 2.0


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
