"""Where the last attempt of an event goes: by example."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Budget, Endpoint, Limit
from rlm.core.window import WindowState
from rlm.delivery.candidates import AHEAD_SECONDS, LEAST_SECONDS, MOST_SECONDS, Candidates, choose_last
from tests.values import replace

ACCOUNT = Budget("account", Limit.parse("9/minute"))
FAILED, SECOND, THIRD = (
    Endpoint(name, f"http://127.0.0.1:1/{name}", Limit.parse("9/minute"), 10) for name in ("failed", "second", "third")
)
FREE = WindowState(1)
PROBING = WindowState(1, suspect=True)


def full(seconds):
    return WindowState(0, seconds)


def choose(failed, second, third, *, spare=30.0, endpoints=(THIRD, SECOND, FAILED), **more):
    views = {"failed": failed, "second": second, "third": third, **more}
    return choose_last(endpoints, dict.fromkeys(("failed", "second", "third"), spare), views)


def test_it_is_no_probe_while_a_healthy_endpoint_has_a_slot():
    """The healthy ones keep their order; if others take that slot first, it soon asks again."""
    assert choose(PROBING, FREE, FREE) == Candidates([THIRD, SECOND], LEAST_SECONDS)
    assert choose(PROBING, FREE, full(0.5)) == Candidates([SECOND], LEAST_SECONDS)
    assert choose(FREE, FREE, PROBING) == Candidates([SECOND, FAILED], LEAST_SECONDS)


def test_it_waits_for_a_healthy_endpoint_with_a_slot_soon():
    """It is pending again shortly before that, to be the first to take it; an endpoint that is probed gives no slot."""
    soon = Candidates([], pytest.approx(0.5 - AHEAD_SECONDS))
    assert choose(PROBING, full(5.0), full(0.5)) == soon
    assert choose(PROBING, full(0.5), replace(PROBING, free=0, wait_seconds=0.2)) == soon


def test_it_goes_anywhere_if_no_healthy_endpoint_has_a_slot_soon_and_in_time():
    """If the healthy ones cannot do all, an endpoint that could help must be probed, with whatever event is left."""
    anywhere = Candidates((THIRD, SECOND, FAILED))
    for second in (PROBING, full(MOST_SECONDS + 0.1)):
        assert choose(PROBING, second, PROBING) == anywhere
    assert choose(PROBING, full(0.5), PROBING, spare=0.4) == anywhere


def test_an_endpoint_that_this_host_does_not_reach_is_not_healthy():
    """Whatever other hosts made of its window."""
    views, spare = {"second": full(0.5), "third": full(0.5)}, dict.fromkeys(("second", "third"), 30.0)
    soon = Candidates([], pytest.approx(0.5 - AHEAD_SECONDS))

    assert choose_last((FAILED, SECOND, THIRD), spare, views) == soon


def test_it_goes_anywhere_if_all_are_healthy():
    """Also where it failed last: that endpoint is needed, and waiting would only keep others from their slots."""
    assert choose(FREE, full(0.5), full(0.5)) == Candidates((THIRD, SECOND, FAILED))


def test_an_endpoint_has_a_slot_only_with_one_of_its_budget():
    """And is as healthy as that."""
    second = replace(SECOND, budget=ACCOUNT)

    def chosen(account):
        return choose(PROBING, FREE, PROBING, endpoints=(second, THIRD, FAILED), account=account)

    assert chosen(full(0.5)) == Candidates([], pytest.approx(0.5 - AHEAD_SECONDS))
    assert chosen(PROBING) == Candidates((second, THIRD, FAILED))
