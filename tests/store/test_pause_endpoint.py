"""Pausing an endpoint by hand: no slot is given, independently of other rests."""

from __future__ import annotations

import math

import pytest

from rlm.core.window import Circuit, circuit_of
from tests.store.windows import (
    hold,
    look,
    make_budget,
    make_endpoint,
    refusal,
    rest,
    take,
)

BY = "someone@somewhere"


@pytest.fixture
def endpoint():
    """An endpoint whose limit is never met here."""
    return make_endpoint("100/minute")


@pytest.mark.parametrize(("rested", "held", "pause"), [(50, 0, 20), (20, 0, 50), (0, 50, 20), (0, 20, 50)])
def test_the_longest_of_all_rests_counts(store, endpoint, rested, held, pause):
    """A pause neither shortens nor is shortened by a rest for what was answered, or for a window not trusted."""
    if rested:
        rest(store, endpoint, rested)
    if held:
        hold(store, endpoint, held)

    store.control.pause(endpoint, BY, pause)

    assert 48 < refusal(store, endpoint) <= 50
    view = look(store, endpoint)
    assert 48 < view.rest_seconds == view.wait_seconds <= 50
    assert math.isclose(view.paused_seconds, pause, abs_tol=2)
    assert circuit_of(view) is (Circuit.HELD if held else Circuit.PAUSED)


def test_a_paused_budget_pauses_all_that_hang_on_it(store):
    """And nobody else."""
    account = make_budget("100/minute")
    one, other = make_endpoint(name="one", budget=account), make_endpoint(name="other")

    store.control.pause(account, BY, 30)

    assert 28 < refusal(store, one) <= 30
    take(store, other)
