"""Where the last attempt of an event goes: by example."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Budget, Endpoint, Limit
from rlm.core.window import WindowState
from rlm.delivery.candidates import AHEAD_SECONDS, LEAST_SECONDS, Candidates, choose_last
from tests.values import replace

ACCOUNT = Budget("account", Limit.parse("9/minute"))
FAILED, SECOND, THIRD = (
    Endpoint(name, f"http://127.0.0.1:1/{name}", Limit.parse("9/minute"), 10) for name in ("failed", "second", "third")
)
FREE = WindowState(1)
PROBING = WindowState(1, suspect=True)


def full(seconds):
    return WindowState(0, seconds)


def choose(second, third, *, spare=30.0, endpoints=(THIRD, SECOND, FAILED), **more):
    return choose_last(endpoints, {"second": spare, "third": spare}, {"second": second, "third": third, **more})


def test_it_goes_to_the_healthy_endpoints_with_a_slot_in_their_order():
    """Neither a full one nor one that is probed is tried; without a slot it soon asks again."""
    assert choose(FREE, FREE) == Candidates([THIRD, SECOND], LEAST_SECONDS)
    assert choose(FREE, full(5.0)) == choose(FREE, PROBING) == Candidates([SECOND], LEAST_SECONDS)


def test_it_waits_for_the_first_healthy_endpoint_with_a_slot_in_time():
    """It is pending again shortly before that, to be the first to take it; an endpoint that is probed gives no slot."""
    assert choose(full(5.0), full(3.0)) == Candidates([], pytest.approx(3.0 - AHEAD_SECONDS))
    assert choose(full(5.0), replace(PROBING, free=0, wait_seconds=1.0)) == Candidates(
        [], pytest.approx(5.0 - AHEAD_SECONDS)
    )


def test_it_goes_anywhere_if_no_healthy_endpoint_has_a_slot_in_time():
    """An attempt at an endpoint that may fail is better than none."""
    for second in (PROBING, full(30.1)):
        assert choose(second, PROBING) == Candidates((THIRD, SECOND, FAILED))


def test_an_endpoint_has_a_slot_only_with_one_of_its_budget():
    """And is as healthy as that."""
    second = replace(SECOND, budget=ACCOUNT)

    def chosen(account):
        return choose(FREE, PROBING, endpoints=(second, THIRD, FAILED), account=account)

    assert chosen(full(4.0)) == Candidates([], pytest.approx(4.0 - AHEAD_SECONDS))
    assert chosen(PROBING) == Candidates((second, THIRD, FAILED))
