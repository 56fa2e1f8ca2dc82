"""The plan by example, most on the default configuration."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.plan import compute_plan
from rlm.plan.simulate import simulate
from rlm.plan.situation import SECOND, Capacity, Horizon, Situation, Workload
from tests.values import left_over

DEFAULT_TYPES = {
    "REBALANCE_NEEDED": ("rebalance_api", 2.0),
    "OPEN_POSITION_DETECTED": ("open_position_api", 1.5),
    "OPEN_ORDER_DETECTED": ("open_order_api", 1.0),
    "NEW_BALANCE_UPDATE": ("balance_update_api", 0.8),
    "BALANCE_CHECK_REQUIRED": ("balance_check_api", 1.2),
}
CAPACITY = Capacity(min_workers=0, max_workers=20, threads=5)
HORIZON = Horizon(deadline_seconds=180, target_seconds=135, guard_seconds=0.5)


def endpoint(name, limit="30/minute"):
    return Endpoint(name, f"http://127.0.0.1:8090/{name}", Limit.parse(limit), timeout_seconds=10)


def default_types(limit="30/minute", faster=1):
    return tuple(
        EventType(
            name,
            priority,
            seconds / faster,
            (endpoint(api, limit), *[endpoint(f"overflow_{api}_{number}", limit) for number in (1, 2, 3)]),
        )
        for priority, (name, (api, seconds)) in zip((5, 4, 3, 2, 1), DEFAULT_TYPES.items(), strict=True)
    )


TYPES = default_types()


def of_each(number):
    return dict.fromkeys(DEFAULT_TYPES, number)


def plan_of(backlog, *, types=TYPES, capacity=CAPACITY, horizon=HORIZON, workers=None):
    return compute_plan(Workload(backlog, types), capacity.exactly(workers), horizon)


def course_of(backlog, types, lanes):
    return simulate(Situation.of(Workload(backlog, types), HORIZON), lanes)


def test_full_load_fits_with_workers_to_spare():
    """360 of each type fill the window: all are done by the target, with fewer workers than there may be."""
    plan = plan_of(of_each(360))

    assert (plan.workers, plan.threads) == (12, 5)
    assert plan.forecast_seconds == pytest.approx(134.0)
    assert plan.lower_bound_seconds == pytest.approx(128.8)
    assert plan.fits


def test_what_the_limits_do_not_let_through_is_left_over():
    """Of 500 of each type 360 fit, 140 are left over, and no number of workers would change that."""
    plan = plan_of(of_each(500))

    assert (plan.fits, plan.fitting, left_over(plan)) == (False, 1800, 700)
    assert set(map(left_over, plan.by_type.values())) == {140}
    assert plan.forecast_seconds == plan_of(of_each(360)).forecast_seconds


def test_no_worker_is_started_in_vain_if_the_limits_keep_the_end_beyond_the_target():
    plan = plan_of({"A": 14}, types=(EventType("A", 1, 2.0, (endpoint("a", "1 per 10 second"),)),))

    assert plan.forecast_seconds > HORIZON.target_seconds
    assert plan.workers == 1


def test_the_cost_does_not_grow_with_the_backlog():
    """A billion events take no more steps than ten thousand."""
    starts = [len(course_of(of_each(number), TYPES, lanes=100).starts) for number in (10**4, 10**9)]

    assert starts[0] == starts[1]
    assert left_over(plan_of(of_each(10**9))) == 5 * 10**9 - 1800


#: On two lanes the short calls of the second type, which has only one endpoint with few slots, wait for the long first.
LONG, SCARCE = UNEVEN = (
    EventType("LONG", 2, 1.0, (endpoint("long", "600/minute"),)),
    EventType("SCARCE", 1, 1.0, (endpoint("scarce", "4 per 5 second"),)),
)


def test_priority_decides_where_not_everything_fits():
    """The longest queue goes first only if all fits with it, and ends sooner by more than one part in a hundred."""
    backlog = {"LONG": 10, "SCARCE": 12}
    by_priority = course_of(backlog, UNEVEN, lanes=2).forecast / SECOND

    def most(deadline):
        return plan_of(backlog, types=UNEVEN, capacity=Capacity(1, 1, 2), horizon=Horizon(deadline, deadline, 0.5)).most

    assert most(by_priority)
    assert most(by_priority - 0.5)  # only so does everything fit
    assert not most(9.0)
    assert not plan_of({"LONG": 10}, types=UNEVEN).most


SLOW = (EventType("A", 1, 2.0, (endpoint("a", "6/minute"),)),)


@pytest.mark.parametrize(
    ("backlog", "how", "words"),
    [
        ({}, {}, "nothing binds"),
        ({"REBALANCE_NEEDED": 100}, {}, "nothing binds"),
        (of_each(360), {"workers": 2}, "workers bind"),
        ({"A": 12}, {"types": SLOW}, "the limits of A bind until 1:00"),
        ({"A": 30}, {"types": SLOW}, "the limits of A bind until the deadline at 3:00: 12 events left over"),
        ({"A": 3}, {"types": SLOW, "horizon": Horizon(1.0, 1.0, 0.5)}, "the deadline at 0:01 binds"),
    ],
)
def test_a_plan_says_what_binds(backlog, how, words):
    assert plan_of(backlog, **how).binds.startswith(words)
