"""The plan by example, most on the default configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.core.expected import Expected
from rlm.core.window import WindowState
from rlm.plan import compute_plan
from rlm.plan.outlook import look_ahead
from rlm.plan.simulate import simulate
from rlm.plan.situation import Capacity, Horizon, RunProgress, Situation, Underway, Workload
from rlm.plan.window import SECOND
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Mapping


DEFAULT_TYPES = {
    "REBALANCE_NEEDED": ("rebalance_api", 2.0),
    "OPEN_POSITION_DETECTED": ("open_position_api", 1.5),
    "OPEN_ORDER_DETECTED": ("open_order_api", 1.0),
    "NEW_BALANCE_UPDATE": ("balance_update_api", 0.8),
    "BALANCE_CHECK_REQUIRED": ("balance_check_api", 1.2),
}
CAPACITY = Capacity(min_workers=0, max_workers=20, threads=5)
HORIZON = Horizon(deadline_seconds=180, target_seconds=135, guard_seconds=0.5)
FRESH: Mapping[str, WindowState] = {}


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
TYPES_TEN_TIMES_AS_FAST = default_types("30 per 6 second", faster=10)
HORIZON_TEN_TIMES_AS_SHORT = Horizon(deadline_seconds=18, target_seconds=13.5, guard_seconds=0.05)
ENDPOINTS = [each.name for kind in TYPES for each in kind.endpoints]


def of_each(number):
    return dict.fromkeys(DEFAULT_TYPES, number)


def plan_of(
    backlog,
    *,
    types=TYPES,
    windows=FRESH,
    capacity=CAPACITY,
    horizon=HORIZON,
    workers=None,
    expected=None,
    progress=None,
):
    workload = Workload(backlog, types, windows, expected or {}, progress)
    return compute_plan(workload, capacity.exactly(workers), horizon)


def course_of(backlog, types, lanes, *, windows=FRESH, deadline=180.0, guard=0.5):
    return simulate(Situation.of(Workload(backlog, types, windows), Horizon(deadline, deadline, guard)), lanes)


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

    assert plan.expected_leftover == 700
    assert not plan.fits
    assert {part.expected_leftover for part in plan.by_type.values()} == {140}
    assert plan.forecast_seconds == plan_of(of_each(360)).forecast_seconds


@pytest.mark.parametrize("number", [120, 360, 500])
def test_a_plan_scales_with_time(number):
    """With every time divided by ten the plan is the same, ten times as fast."""
    plan = plan_of(of_each(number))

    faster = plan_of(of_each(number), types=TYPES_TEN_TIMES_AS_FAST, horizon=HORIZON_TEN_TIMES_AS_SHORT)

    assert faster.workers == plan.workers
    assert faster.expected_leftover == plan.expected_leftover
    assert faster.forecast_seconds == pytest.approx(plan.forecast_seconds / 10)
    assert faster.lower_bound_seconds == pytest.approx(plan.lower_bound_seconds / 10)


def test_no_event_is_left_over_for_a_late_start_where_limits_bind_to_the_end() -> None:
    """Slots that trickle in keep few lanes busy, but those that have gathered by a late start need more at once."""
    kind = EventType("A", 1, 1.0, (endpoint("a", "30 per 6 second"),))
    window = WindowState(ages=tuple(number / 5 for number in range(30)))  # one comes back each 0.2 s
    horizon = Horizon(deadline_seconds=18, target_seconds=13.5, guard_seconds=0)
    plan = plan_of({"A": 90}, types=(kind,), windows={"a": window}, horizon=horizon)
    assert (plan.workers, plan.expected_leftover) == (6, 5)  # no more than 30 calls can be under way at one moment

    def left_if_late(workers: int) -> int:
        late, windows = replace(horizon, deadline_seconds=16), {"a": window.later(2)}
        return plan_of({"A": 90}, types=(kind,), windows=windows, horizon=late, workers=workers).expected_leftover

    assert plan_of({"A": 90}, types=(kind,), windows={"a": window}, horizon=horizon, workers=1).expected_leftover == 5
    assert (left_if_late(1), left_if_late(plan.workers)) == (10, 5)


def test_a_resting_endpoint_gets_nothing_until_it_is_rested():
    """An endpoint at rest takes no call before its time, its share goes to the others, and the plan says so."""
    plan = plan_of({"REBALANCE_NEEDED": 500}, windows={"rebalance_api": WindowState(rest_seconds=100)})

    of_resting = [release.at_seconds for release in plan.releases if release.endpoint == "rebalance_api"]
    assert of_resting == [100.0, pytest.approx(160.5)]
    assert plan.expected_leftover == 500 - 330


def test_a_lowered_limit_counts_what_was_called_under_the_old_one():
    """With more calls in the window than the limit now allows, a slot is free only when enough of them are old."""
    lowered = (EventType("A", 1, 1.0, (endpoint("a", "2/minute"),)),)
    called = {"a": WindowState(ages=(50.0, 10.0, 20.0, 40.0))}

    plan = plan_of({"A": 1}, types=lowered, windows=called)

    # Two may count: the calls 50, 40 and 20 s ago must be out of the window for one more.
    assert plan.first_call_seconds == pytest.approx(60.5 - 20.0)


def test_a_call_that_would_end_after_the_deadline_is_not_begun():
    """An event is left over when its call fits only in part; one that ends on the deadline fits."""
    kind = EventType("A", 1, 2.0, (endpoint("a"),))

    fits = course_of({"A": 3}, (kind,), lanes=1, deadline=6.0)
    misses = course_of({"A": 3}, (kind,), lanes=1, deadline=5.999)

    assert (fits.leftover, fits.forecast) == (0, 6 * SECOND)
    assert (misses.leftover, misses.forecast) == (1, 4 * SECOND)


def test_nothing_to_do_needs_no_worker_but_the_minimum():
    """An empty backlog takes no time and no workers beyond `min`; unconfigured types are not planned."""
    plan = plan_of({"UNKNOWN": 7})

    assert plan == replace(plan, workers=0, forecast_seconds=0.0, lower_bound_seconds=0.0, releases=())
    assert plan.fits
    assert plan_of({}, capacity=replace(CAPACITY, min_workers=3)).workers == 3


def test_releases_are_few_and_complete():
    """The releases say when each endpoint's window is filled, in order of time, and account for every event."""
    plan = plan_of(of_each(360))

    assert len(plan.releases) == 60
    assert sum(release.events for release in plan.releases) == 1800
    assert [release.at_seconds for release in plan.releases if release.endpoint == "rebalance_api"] == [0, 60.5, 121]
    assert plan.releases == tuple(sorted(plan.releases, key=lambda release: release.at_seconds))


def test_the_cost_does_not_grow_with_the_backlog():
    """A billion events take no more steps than ten thousand."""
    starts = [len(course_of(of_each(number), TYPES, lanes=100).starts) for number in (10**4, 10**9)]

    assert starts[0] == starts[1]
    assert plan_of(of_each(10**9)).expected_leftover == 5 * 10**9 - 1800


def test_the_turnaround_of_a_lane_delays_its_next_call_and_not_its_answer():
    """Ten calls of a second on one lane, half a second apart: the last is answered after 14.5 s; the bound stays."""
    types = (EventType("A", 1, 1.0, (endpoint("a", "30/minute"),)),)
    capacity = Capacity(1, 1, 1, turnaround_seconds=0.5)

    plan = compute_plan(Workload({"A": 10}, types), capacity, Horizon(180.0, 135.0, 0.5))

    assert plan.forecast_seconds == pytest.approx(14.5)
    assert plan.lower_bound_seconds == pytest.approx(10.0)


def measured(kind, endpoints, seconds, **more):
    names = [each.name for one in TYPES if one.name == kind for each in one.endpoints]
    return {
        (kind, name): Expected(seconds, more.get("needed", seconds), more.get("errors", 0.0))
        for name in names[:endpoints]
    }


def test_what_was_measured_goes_over_what_is_configured():
    """Calls measured at a quarter of the time configured end sooner; what was not measured is as configured."""
    backlog = {"REBALANCE_NEEDED": 10, "OPEN_POSITION_DETECTED": 10}

    plan = plan_of(backlog, workers=4, expected=measured("REBALANCE_NEEDED", 4, 0.5))

    assert plan.by_type["REBALANCE_NEEDED"].forecast_seconds == pytest.approx(0.5)
    assert plan.by_type["OPEN_POSITION_DETECTED"].forecast_seconds == pytest.approx(1.5)


def test_a_call_is_begun_where_the_time_that_most_need_is_left():
    """Calls take a second, but one in twenty five: in the last five seconds none is begun."""
    kind = EventType("A", 1, 2.0, (endpoint("a", "1/second"),))
    expected = {("A", "a"): Expected(1.0, 5.0)}

    plan = plan_of({"A": 100}, types=(kind,), horizon=Horizon(20, 20, 0.0), expected=expected)

    assert (plan.expected_leftover, plan.forecast_seconds) == (100 - 16, 16.0)


def test_calls_that_are_expected_to_fail_are_planned_again():
    """Where one call in ten fails, the slots of the second attempts are planned too, and the second failures."""
    kind = EventType("A", 1, 1.0, (endpoint("a", "200/minute"),))
    expected = {("A", "a"): Expected(1.0, 1.0, error_rate=0.1)}

    plan = plan_of({"A": 100}, types=(kind,), expected=expected, workers=20)

    # 100 at once; after a second and a back-off of half a second ten of them again, and one of those a second later.
    assert sum(release.events for release in plan.releases) == 111
    assert plan.expected_leftover == 0
    assert plan.forecast_seconds == pytest.approx(1 + 0.5 + 1 + 1.0 + 1)


def test_a_suspect_endpoint_is_not_counted_on():
    """What failed and has not answered well since gets no call in a plan, whenever its rest ends; the plan says so."""
    windows = {"rebalance_api": WindowState(rest_seconds=1, suspect=True)}

    plan = plan_of({"REBALANCE_NEEDED": 360}, windows=windows)

    assert "rebalance_api" not in {release.endpoint for release in plan.releases}
    assert plan.expected_leftover == 90


def test_a_budget_keeps_its_endpoints_together_within_its_limit():
    """Four endpoints of 30 a minute that share 60 a minute get 60, over types too, and the plan names the budget."""
    budget = Budget("account", Limit.parse("60/minute"))
    kinds = tuple(
        replace(kind, endpoints=tuple(replace(each, budget=budget) for each in kind.endpoints)) for kind in TYPES[:2]
    )

    plan = plan_of({"REBALANCE_NEEDED": 120, "OPEN_POSITION_DETECTED": 60}, types=kinds, workers=20)

    assert plan.fits
    assert [round(release.at_seconds) for release in plan.releases if release.endpoint == "rebalance_api"] == [0, 60]
    assert plan.by_type["OPEN_POSITION_DETECTED"].forecast_seconds == pytest.approx(122.5, abs=0.1)


def test_a_share_is_kept_while_a_higher_type_takes_the_rest():
    """Of lanes that a high type could use alone, a low one with a share of a fifth gets a fifth, and no more."""
    high = EventType("HIGH", 2, 1.0, (endpoint("high", "6000/minute"),))
    low = EventType("LOW", 1, 1.0, (endpoint("low", "6000/minute"),))
    backlog = {"HIGH": 1000, "LOW": 1000}
    horizon = Horizon(10, 10, 0.5)

    starved = plan_of(backlog, types=(high, low), horizon=horizon, workers=2)
    shared = plan_of(backlog, types=(high, replace(low, share=0.2)), horizon=horizon, workers=2)

    assert {name: part.expected_leftover for name, part in starved.by_type.items()} == {"HIGH": 900, "LOW": 1000}
    assert {name: part.expected_leftover for name, part in shared.by_type.items()} == {"HIGH": 920, "LOW": 980}


def test_calls_under_way_keep_their_lanes_and_count_in_the_forecast():
    """Five calls that have a second to go yet: their lanes are free then, and the last answer may be theirs."""
    under_way = (Underway("REBALANCE_NEEDED", "rebalance_api", 1.0),) * 5

    after = plan_of({"OPEN_ORDER_DETECTED": 5}, workers=1, progress=RunProgress(under_way))

    assert after.first_call_seconds + after.forecast_seconds == pytest.approx(2.0)


def test_a_call_that_is_overdue_is_expected_to_be_so_for_as_long_again():
    """Of a call of two seconds that has taken three, another is expected, and where that is too late, a leftover."""
    progress = RunProgress((Underway("REBALANCE_NEEDED", "rebalance_api", 3.0),))

    assert plan_of({}, progress=progress).forecast_seconds == pytest.approx(1.0)
    assert plan_of({}, progress=progress, horizon=Horizon(0.9, 0.9, 0.5)).expected_leftover == 1


def test_lanes_that_are_not_ready_yet_are_planned_with_from_when_they_are():
    """Twenty calls of a second: by ten lanes in two rounds, by five until the others come up in three and a half."""
    kind = EventType("A", 1, 1.0, (endpoint("a", "6000/minute"),))

    def end(progress):
        return plan_of({"A": 20}, types=(kind,), workers=2, progress=progress).forecast_seconds

    assert end(RunProgress()) == pytest.approx(2.0, abs=0.1)
    assert end(RunProgress(ready_lanes=5, coming_up_seconds=2.5)) == pytest.approx(3.5, abs=0.2)
    assert end(RunProgress(ready_lanes=5, coming_up_seconds=60.0)) == pytest.approx(4.0, abs=0.2)
    assert end(RunProgress(ready_lanes=10, coming_up_seconds=60.0)) == pytest.approx(2.0, abs=0.1)


#: On two lanes the short calls of the second type, which has only one endpoint with few slots, wait for the long first.
LONG, SCARCE = UNEVEN = (
    EventType("LONG", 2, 1.0, (endpoint("long", "600/minute"),)),
    EventType("SCARCE", 1, 1.0, (endpoint("scarce", "4 per 5 second"),)),
)


def test_the_longest_queue_goes_first_where_all_fits_and_ends_sooner():
    """By priority the scarce slots are left unused in the beginning."""
    backlog = {"LONG": 10, "SCARCE": 12}

    plan = plan_of(backlog, types=UNEVEN, capacity=Capacity(1, 1, 2))

    assert (plan.most, plan.fits) == (True, True)
    assert plan.forecast_seconds < 0.99 * course_of(backlog, UNEVEN, lanes=2).forecast / SECOND


def test_priority_decides_where_not_everything_fits():
    """The longest queue goes first only if all fits with it, and not for less than one part in a hundred."""
    backlog = {"LONG": 10, "SCARCE": 12}
    by_priority = course_of(backlog, UNEVEN, lanes=2).forecast / SECOND

    def most(deadline):
        return plan_of(backlog, types=UNEVEN, capacity=Capacity(1, 1, 2), horizon=Horizon(deadline, deadline, 0.5)).most

    assert most(by_priority)
    assert most(by_priority - 0.5)  # only so does everything fit
    assert not most(9.0)
    assert not plan_of({"LONG": 10}, types=UNEVEN).most


def test_a_long_simulation_is_coarse_and_nearly_as_good():
    """Two million calls of a millisecond on a hundred lanes, or as many as a limit admits."""
    free = (EventType("A", 1, 0.001, (endpoint("a", "1000000/second"),)),)
    limited = tuple(EventType(name, 1, 0.05, (endpoint(name, "1000/second"),)) for name in "AB")

    unlimited = course_of({"A": 2_000_000}, free, lanes=100)
    assert (unlimited.leftover, unlimited.forecast / SECOND) == (0, pytest.approx(20, rel=0.01))

    course = course_of({"A": 10**6, "B": 10**6}, limited, lanes=100, guard=0.0)
    assert len(course.starts) < 50_000
    assert sum(call.calls for call in course.starts) == pytest.approx(2 * 180_000, rel=0.03)

    plan = plan_of({"A": 10**6, "B": 10**4}, types=limited, progress=RunProgress())
    assert plan.lower_bound_seconds <= plan.forecast_seconds <= 180
    assert plan.by_type["B"].expected_leftover == 0


SLOW = (EventType("A", 1, 2.0, (endpoint("a", "6/minute"),)),)


@pytest.mark.parametrize(
    ("backlog", "how", "words"),
    [
        ({}, {}, "nothing binds"),
        ({"REBALANCE_NEEDED": 100}, {}, "nothing binds"),
        (of_each(360), {"workers": 2}, "workers bind"),
        ({"A": 12}, {"types": SLOW}, "the limits of A bind until 1:00"),
        ({"A": 30}, {"types": SLOW}, "the limits of A bind until the deadline at 3:00: 12 events are left over"),
        ({"A": 3}, {"types": SLOW, "horizon": Horizon(1.0, 1.0, 0.5)}, "the deadline at 0:01 binds"),
    ],
)
def test_a_plan_says_what_binds(backlog, how, words):
    assert plan_of(backlog, **how).binds.startswith(words)


def test_an_endpoint_that_is_shut_past_the_deadline_is_blamed():
    plan = plan_of({"A": 3}, types=SLOW, windows={"a": WindowState(rest_seconds=999.0, wait_seconds=999.0)})

    assert plan.binds.startswith("no endpoint of A can be called before the deadline: 3 events are left over")
    assert plan.blamed == ("a",)


def test_calls_that_begin_one_after_the_other_delay_the_end():
    """Ten calls on ten lanes that were idle, a tenth of a second apart."""
    horizon = replace(HORIZON, apart_seconds=0.1)

    plan = plan_of({"OPEN_ORDER_DETECTED": 10}, horizon=horizon, workers=2)

    assert plan.forecast_seconds == pytest.approx(0.9 + 1.0)


@pytest.mark.parametrize(
    ("events", "arrivals", "windows"), [(360, 300, 1), (500, 0, 2), (500, 300, 4), (500, 360, None), (500, 400, None)]
)
def test_a_backlog_is_gone_after_some_windows_at_the_arrivals_of_the_last_runs(events, arrivals, windows):
    """A window completes 360 of the type."""
    plan = plan_of({"REBALANCE_NEEDED": events})

    assert look_ahead(plan, {"REBALANCE_NEEDED": arrivals}).windows == windows
