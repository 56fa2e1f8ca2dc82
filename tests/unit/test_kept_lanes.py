"""Lanes kept for urgent types with short calls, in plans and in releases."""

from __future__ import annotations

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.expected import Expected
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.plan import compute_plan
from rlm.plan.choose_releases import ReleaseState, choose_releases, short_of_lanes
from rlm.plan.simulate import simulate
from rlm.plan.situation import Capacity, Horizon, Situation, Workload
from rlm.plan.waits import Obstacle, Wait, waits_of
from rlm.plan.workers import Bound
from tests.values import replace


def kind(name, takes, limit, share=0.0):
    return EventType(name, 1, takes, (Endpoint(name, f"http://api/{name}", Limit.parse(limit), 10.0),), share)


#: Six short calls a second and 20 long ones, on four lanes.
QUICK, SLOW = TYPES = (kind("QUICK", 0.1, "6 per 1 second"), kind("SLOW", 2.0, "50 per 3 second"))
BACKLOG = {"QUICK": 60, "SLOW": 20}
CAPACITY = Capacity(0, 1, 4, turnaround_seconds=0.01)
HORIZON = Horizon(deadline_seconds=9, target_seconds=6.75, guard_seconds=0.25)


def plan_of(types=TYPES, **conditions):
    return compute_plan(Workload(BACKLOG, types, **conditions), CAPACITY, HORIZON)


def left_without(types=TYPES, **conditions):
    return simulate(Situation.of(Workload(BACKLOG, types, **conditions), HORIZON, 0.01), 4).left


def test_a_lane_is_kept_for_slots_that_come_back():
    """Else long calls take all lanes just before: 34 are left over, where their own limit alone leaves 12."""
    plan = plan_of()

    assert left_without() == {"QUICK": 30, "SLOW": 4}
    assert plan.kept == {"QUICK": 1}
    assert {name: part.expected_leftover for name, part in plan.by_type.items()} == {"QUICK": 16, "SLOW": 8}


def test_no_lane_is_kept_without_a_gain():
    """Not where lanes suffice or only limits bind, for long calls, for what fails, or beside a share."""
    assert compute_plan(Workload(BACKLOG, TYPES), Capacity(0, 9, 4), HORIZON).kept == {}
    assert plan_of(TYPES[::-1]).kept == {}
    assert plan_of((QUICK, replace(SLOW, share=0.1))).kept == {}
    failing = {("QUICK", "QUICK"): Expected(0.1, 0.1, error_rate=0.4)}
    bound = Bound(Situation.of(Workload(BACKLOG, TYPES, expected=failing), HORIZON))
    assert bound.kept(simulate(Situation.of(Workload(BACKLOG, TYPES, expected=failing), HORIZON), 99)) == {}


def scene(quick, slow, *, wait=1.0, lanes=4, kept=None):
    windows = {"QUICK": WindowState(0, wait), "SLOW": WindowState(50, 0.0)}
    kept = {"QUICK": 1} if kept is None else kept
    return ReleaseState({"QUICK": quick, "SLOW": slow}, windows, lanes, 9.0, kept=kept)


def releases(quick, slow, **facts):
    return choose_releases(scene(quick, slow, **facts), TYPES)


def test_long_calls_are_released_to_all_lanes_but_the_kept():
    """Only while urgent events wait for a slot that comes before the long calls would be answered."""
    waiting, none, slow = Counts(pending=9), Counts(), Counts(pending=20)

    assert releases(waiting, slow) == {"SLOW": ["SLOW"] * 3}
    assert releases(waiting, slow, kept={}) == {"SLOW": ["SLOW"] * 4}
    assert releases(none, slow) == {"SLOW": ["SLOW"] * 4}
    assert releases(waiting, slow, wait=1.95) == {"SLOW": ["SLOW"] * 4}
    assert releases(waiting, slow, lanes=1) == {}
    assert releases(waiting, Counts(pending=17, inflight=3)) == {}


def test_a_kept_lane_is_no_idle_lane_between_two_calls():
    """What waits for it waits for lanes; how long a lane needs between two calls is not measured meanwhile."""
    busy = scene(Counts(pending=9), Counts(pending=17, inflight=3))

    assert waits_of(busy, SLOW, begun=True) == {Wait(Obstacle.LANES): 1.0}
    assert waits_of(replace(busy, kept={}), SLOW, begun=True) == {}
    assert not short_of_lanes(busy, TYPES)
    assert short_of_lanes(replace(busy, kept={}), TYPES)
