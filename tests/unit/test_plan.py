"""The plan by example, most on the default configuration."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rlm.endpoint import Endpoint, EventType, Limit
from rlm.plan import Capacity, Horizon, Plan, Window, compute_plan
from rlm.plan.gate import SECOND
from rlm.plan.simulate import Situation, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.plan.simulate import Course

DEFAULT_TYPES = {
    "REBALANCE_NEEDED": ("rebalance_api", 2.0),
    "OPEN_POSITION_DETECTED": ("open_position_api", 1.5),
    "OPEN_ORDER_DETECTED": ("open_order_api", 1.0),
    "NEW_BALANCE_UPDATE": ("balance_update_api", 0.8),
    "BALANCE_CHECK_REQUIRED": ("balance_check_api", 1.2),
}
CAPACITY = Capacity(min_workers=0, max_workers=20, threads=5)
HORIZON = Horizon(deadline_seconds=180, target_seconds=135, guard_seconds=0.5)
FRESH: Mapping[str, Window] = {}


def endpoint(name: str, limit: str = "30/minute") -> Endpoint:
    return Endpoint(name, f"http://127.0.0.1:8090/{name}", Limit.parse(limit), timeout_seconds=10)


def default_types(limit: str = "30/minute", faster: float = 1) -> tuple[EventType, ...]:
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
TYPES_TEN_TIMES_AS_FAST = default_types("30 per 6 second", faster=10)
HORIZON_TEN_TIMES_AS_SHORT = Horizon(deadline_seconds=18, target_seconds=13.5, guard_seconds=0.05)
ENDPOINTS = [each.name for kind in TYPES for each in kind.endpoints]


def of_each(number: int) -> dict[str, int]:
    return dict.fromkeys(DEFAULT_TYPES, number)


def plan_of(
    backlog: dict[str, int],
    *,
    types: tuple[EventType, ...] = TYPES,
    windows: Mapping[str, Window] = FRESH,
    capacity: Capacity = CAPACITY,
    horizon: Horizon = HORIZON,
    workers: int | None = None,
) -> Plan:
    return compute_plan(backlog, types, windows, capacity, horizon, workers=workers)


def course_of(
    backlog: dict[str, int],
    types: tuple[EventType, ...],
    lanes: int,
    *,
    windows: Mapping[str, Window] = FRESH,
    deadline: float = 180.0,
    guard: float = 0.5,
) -> Course:
    return simulate(Situation.of(backlog, types, windows, Horizon(deadline, deadline, guard)), lanes)


def test_full_load_fits_with_workers_to_spare() -> None:
    """360 of each type fill the window: all are done by the target, with fewer workers than there may be."""
    plan = plan_of(of_each(360))

    assert (plan.workers, plan.threads) == (12, 5)
    assert plan.forecast_seconds == pytest.approx(134.0)
    assert plan.lower_bound_seconds == pytest.approx(128.8)
    assert plan.fits
    assert plan.binds == (
        "the limit of REBALANCE_NEEDED binds until 2:01; with more workers the end could be 2:03 instead of 2:14"
    )


def test_full_load_on_all_workers_is_near_the_bound() -> None:
    """With all 20 workers full load takes 129.4 s, half a second above what any schedule needs."""
    plan = plan_of(of_each(360), workers=20)

    assert plan.workers == 20
    assert plan.forecast_seconds == pytest.approx(129.4)
    assert plan.lower_bound_seconds == pytest.approx(128.8)


def test_what_the_limits_do_not_let_through_is_left_over() -> None:
    """Of 500 of each type 360 fit, 140 are left over, and no number of workers would change that."""
    plan = plan_of(of_each(500))

    assert plan.expected_leftover == 700
    assert not plan.fits
    assert {part.expected_leftover for part in plan.by_type.values()} == {140}
    assert plan.forecast_seconds == plan_of(of_each(360)).forecast_seconds
    assert plan.binds == (
        "the limits of REBALANCE_NEEDED and 4 more types bind until the deadline at 3:00: 700 will be left over; "
        "more workers change nothing"
    )


@pytest.mark.parametrize("number", [120, 360, 500])
def test_a_plan_scales_with_time(number: int) -> None:
    """With every time divided by ten the plan is the same, ten times as fast."""
    plan = plan_of(of_each(number))

    faster = plan_of(of_each(number), types=TYPES_TEN_TIMES_AS_FAST, horizon=HORIZON_TEN_TIMES_AS_SHORT)

    assert faster.workers == plan.workers
    assert faster.expected_leftover == plan.expected_leftover
    assert faster.forecast_seconds == pytest.approx(plan.forecast_seconds / 10)
    assert faster.lower_bound_seconds == pytest.approx(plan.lower_bound_seconds / 10)


def test_a_window_in_use_delays_what_does_not_fit_in_it() -> None:
    """Windows half used 30 s ago refill in halves: at 30.5 s and so on, and full load ends that much later."""
    half_used = dict.fromkeys(ENDPOINTS, Window(ages=(30.0,) * 15))

    plan = plan_of(of_each(360), windows=half_used)
    soonest = plan_of(of_each(360), windows=half_used, workers=20).forecast_seconds

    assert plan.fits
    assert plan.lower_bound_seconds == pytest.approx(155.4)
    assert soonest == pytest.approx(155.9, abs=0.5)
    # The limits keep it from the target: a quarter of the slack after that may be spent on fewer workers.
    assert plan.workers == 8
    assert soonest <= plan.forecast_seconds <= soonest + (180 - soonest) / 4


def test_a_window_used_up_a_second_ago_costs_its_share() -> None:
    """Endpoints that got all their calls a second before the run open after 59.5 s, and a third is left over."""
    used_up = dict.fromkeys(ENDPOINTS, Window(ages=(1.0,) * 30))

    plan = plan_of(of_each(360), windows=used_up)

    assert plan.expected_leftover == 600
    assert plan.first_call_seconds == pytest.approx(59.5)
    assert min(release.at_seconds for release in plan.releases) == 0


def test_calls_too_old_to_count_do_no_harm() -> None:
    """Ages beyond the period and its guard change nothing, in whatever order they come."""
    old = dict.fromkeys(ENDPOINTS, Window(ages=(60.5, 300.0, 61.0)))

    assert plan_of(of_each(360), windows=old) == plan_of(of_each(360))


def test_a_resting_endpoint_gets_nothing_until_it_is_rested() -> None:
    """An endpoint at rest takes no call before its time, its share goes to the others, and the plan says so."""
    plan = plan_of({"REBALANCE_NEEDED": 500}, windows={"rebalance_api": Window(rest_seconds=100)})

    of_resting = [release.at_seconds for release in plan.releases if release.endpoint == "rebalance_api"]
    assert of_resting == [100.0, pytest.approx(160.5)]
    assert plan.expected_leftover == 500 - 330
    assert plan.binds.endswith("more workers change nothing (rebalance_api rests until 1:40)")


def test_a_lowered_limit_counts_what_was_called_under_the_old_one() -> None:
    """With more calls in the window than the limit now allows, a slot is free only when enough of them are old."""
    lowered = (EventType("A", 1, 1.0, (endpoint("a", "2/minute"),)),)
    called = {"a": Window(ages=(50.0, 10.0, 20.0, 40.0))}

    plan = plan_of({"A": 1}, types=lowered, windows=called)

    # Two may count: the calls 50, 40 and 20 s ago must be out of the window for one more.
    assert plan.first_call_seconds == pytest.approx(60.5 - 20.0)


def test_all_rules_of_an_endpoint_hold_at_once() -> None:
    """Where a limit has two rules a call needs a slot of both."""
    kind = EventType("A", 1, 0.5, (endpoint("a", "5/second; 12/minute"),))

    plan = plan_of({"A": 20}, types=(kind,), horizon=Horizon(100, 100, 0.0))

    # 5, 5 and 2 in three seconds, the other 8 once the minute of the first ten is over.
    starts = Counter(start.at / SECOND for start in course_of({"A": 20}, (kind,), lanes=100, guard=0.0).starts)
    assert set(starts) == {0.0, 1.0, 2.0, 60.0, 61.0}
    assert plan.forecast_seconds == pytest.approx(61.5)


def test_types_that_share_an_endpoint_share_its_window() -> None:
    """An endpoint named by two types is one window: both together get its limit, the higher type first."""
    shared = endpoint("shared", "10/minute")
    kinds = (EventType("HIGH", 2, 1.0, (shared,)), EventType("LOW", 1, 1.0, (shared,)))

    plan = plan_of({"HIGH": 8, "LOW": 8}, types=kinds, horizon=Horizon(60, 45, 0.5))

    assert plan.by_type["HIGH"].expected_leftover == 0
    assert plan.by_type["LOW"].expected_leftover == 6


def test_a_lower_type_uses_lanes_that_a_higher_one_cannot() -> None:
    """A type whose endpoints are full leaves its lanes to the next, and takes the next free ones once they open."""
    kinds = (EventType("HIGH", 2, 1.0, (endpoint("high", "1/minute"),)), EventType("LOW", 1, 1.0, (endpoint("low"),)))

    course = course_of({"HIGH": 2, "LOW": 5}, kinds, lanes=1)

    assert [start.type for start in course.starts] == ["HIGH", *["LOW"] * 5, "HIGH"]


def test_a_call_that_would_end_after_the_deadline_is_not_begun() -> None:
    """An event is left over when its call fits only in part; one that ends on the deadline fits."""
    kind = EventType("A", 1, 2.0, (endpoint("a"),))

    fits = course_of({"A": 3}, (kind,), lanes=1, deadline=6.0)
    misses = course_of({"A": 3}, (kind,), lanes=1, deadline=5.999)

    assert (fits.leftover, fits.forecast) == (0, 6 * SECOND)
    assert (misses.leftover, misses.forecast) == (1, 4 * SECOND)


def test_nothing_to_do_needs_no_worker_but_the_minimum() -> None:
    """An empty backlog takes no time and no workers beyond `min`; unconfigured types are not planned."""
    plan = plan_of({"UNKNOWN": 7})

    assert plan == replace(plan, workers=0, forecast_seconds=0.0, lower_bound_seconds=0.0, releases=())
    assert plan.fits
    assert plan.binds == "nothing binds: there is nothing to do"
    assert plan_of({}, capacity=replace(CAPACITY, min_workers=3)).workers == 3


def test_the_minimum_of_workers_is_kept() -> None:
    """One event needs one worker, but never fewer are planned than are kept in any case."""
    assert plan_of({"REBALANCE_NEEDED": 1}).workers == 1
    assert plan_of({"REBALANCE_NEEDED": 1}, capacity=replace(CAPACITY, min_workers=4)).workers == 4


def test_workers_bind_where_more_would_end_sooner() -> None:
    """Where the limits leave room and the workers do not, the plan takes them all and says what more would bring."""
    kind = EventType("A", 1, 2.0, (endpoint("a", "5000/minute"),))

    plan = plan_of({"A": 8000}, types=(kind,))

    assert plan.workers == 20
    assert plan.forecast_seconds == pytest.approx(160.0)
    assert plan.binds == "workers bind: with 20 workers (the maximum) all is done at 2:40; with more it could be 1:06"


def test_workers_bind_where_more_would_leave_less() -> None:
    """With too few workers for the time there is, the plan says how many are left over for want of workers."""
    plan = plan_of(of_each(360), workers=2)

    assert plan.workers == 2
    assert plan.binds == "workers bind: with 2 workers 500 are left over; with more it could be 0"


def test_no_worker_does_nothing() -> None:
    """The what-if of no worker at all leaves everything over."""
    plan = plan_of(of_each(360), workers=0)

    assert (plan.workers, plan.expected_leftover, plan.forecast_seconds) == (0, 1800, 0.0)


def test_nothing_binds_where_the_target_is_met_in_comfort() -> None:
    """A small backlog is given few workers, not the soonest end."""
    plan = plan_of({"REBALANCE_NEEDED": 100})

    assert plan.workers == 1
    assert plan.binds == (
        "nothing binds: with 1 worker all is done at 0:40, before the target of 2:15; with more it could be 0:02"
    )


def test_nothing_binds_where_every_call_begins_at_once() -> None:
    """When the end is only the length of the longest call, neither limits nor workers are blamed."""
    assert plan_of({"OPEN_ORDER_DETECTED": 5}).binds == (
        "nothing binds: the last call, of OPEN_ORDER_DETECTED, begins at 0:00 and takes 1 s"
    )


def test_the_deadline_binds_where_no_call_fits() -> None:
    """When a call takes longer than the time there is, neither limits nor workers are blamed."""
    plan = plan_of({"REBALANCE_NEEDED": 5}, horizon=Horizon(1.9, 1.5, 0.5))

    assert (plan.workers, plan.expected_leftover) == (1, 5)
    assert plan.binds == "the deadline binds: in 1.9 s there is no time for a call of REBALANCE_NEEDED"


def test_releases_are_few_and_complete() -> None:
    """The releases say when each endpoint's window is filled, in order of time, and account for every event."""
    plan = plan_of(of_each(360))

    assert len(plan.releases) == 60
    assert sum(release.events for release in plan.releases) == 1800
    assert [release.at_seconds for release in plan.releases if release.endpoint == "rebalance_api"] == [0, 60.5, 121]
    assert plan.releases == tuple(sorted(plan.releases, key=lambda release: release.at_seconds))


def test_many_short_periods_make_few_releases() -> None:
    """An endpoint whose window is filled hundreds of times is shown by quarters of the run."""
    kind = EventType("A", 1, 0.1, (endpoint("a", "20/second"),))

    plan = plan_of({"A": 2000}, types=(kind,))

    assert len(plan.releases) <= 5
    assert sum(release.events for release in plan.releases) == 2000


def test_json_is_what_the_command_prints() -> None:
    """The JSON form has the keys the contract names, and can be encoded."""
    document = json.loads(json.dumps(plan_of({"REBALANCE_NEEDED": 130}).as_json()))

    assert list(document) == [
        "workers",
        "threads",
        "first_call_seconds",
        "forecast_seconds",
        "lower_bound_seconds",
        "expected_leftover",
        "fits",
        "by_type",
        "releases",
        "binds",
    ]
    assert document["fits"] is True
    assert document["by_type"]["NEW_BALANCE_UPDATE"] == {
        "events": 0,
        "expected_leftover": 0,
        "forecast_seconds": 0.0,
    }
    assert document["releases"][0] == {"at_seconds": 0.0, "endpoint": "rebalance_api", "events": 30}


def test_the_cost_does_not_grow_with_the_backlog() -> None:
    """A billion events take no more steps than ten thousand."""
    starts = [len(course_of(of_each(number), TYPES, lanes=100).starts) for number in (10**4, 10**9)]

    assert starts[0] == starts[1]
    assert plan_of(of_each(10**9)).expected_leftover == 5 * 10**9 - 1800


def test_the_turnaround_of_a_lane_delays_its_next_call_and_not_its_answer() -> None:
    """Ten calls of a second on one lane, half a second apart: the last is answered after 14.5 s; the bound stays."""
    types = (EventType("A", 1, 1.0, (endpoint("a", "30/minute"),)),)
    capacity = Capacity(1, 1, 1, turnaround_seconds=0.5)

    plan = compute_plan({"A": 10}, types, {}, capacity, Horizon(180.0, 135.0, 0.5))

    assert plan.forecast_seconds == pytest.approx(14.5)
    assert plan.lower_bound_seconds == pytest.approx(10.0)
