"""The plan: what a backlog needs and when it will be done. A pure function of counts, without a clock and without I/O.

The run, `rlm plan`, the dashboard's what-if and the forecast all call `compute_plan`. It simulates what the conductor
will do (`simulate`), picks the fewest workers that lose nothing (`workers`) and finds what keeps the end from being
sooner (`binds`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rlm.plan.binds import what_binds
from rlm.plan.situation import Situation
from rlm.plan.values import (
    Capacity,
    Horizon,
    Plan,
    PlannedRelease,
    RunProgress,
    TypePlan,
    Underway,
    Utilisation,
    Workload,
)
from rlm.plan.window import SECOND
from rlm.plan.wording import binding_sentence
from rlm.plan.workers import choose_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.plan.situation import Course, Start

__all__ = [
    "Capacity",
    "Horizon",
    "Plan",
    "PlannedRelease",
    "RunProgress",
    "TypePlan",
    "Underway",
    "Utilisation",
    "Workload",
    "compute_plan",
]

#: One release covers the calls to an endpoint over at least this share of the available time, however short its period.
RELEASE_SHARE: Final = 0.25


def compute_plan(workload: Workload, capacity: Capacity, horizon: Horizon) -> Plan:
    """Plan a run, or what a run would be.

    Times in the plan count from its first call, which comes later than the moment planned for if the windows are full;
    `binds` speaks of times from the run's start.

    Allowing more workers never makes a plan worse as long as each number is examined (`workers.FINENESS`). Nor does a
    higher limit, or more endpoints of the same speed, if there is one type alone. If types compete for lanes, a higher
    limit can: its type then takes lanes from those below it.
    """
    situation = Situation.of(workload, horizon, capacity.turnaround_seconds)
    choice = choose_workers(situation, capacity, horizon)
    course = choice.course
    first_call = min((start.at for start in course.starts), default=0)

    def from_first_call(moment: int) -> float:
        return max(0, moment - first_call) / SECOND

    return Plan(
        workers=choice.workers,
        threads=capacity.threads,
        first_call_seconds=first_call / SECOND,
        forecast_seconds=from_first_call(course.forecast),
        lower_bound_seconds=from_first_call(choice.bound.end(capacity.lanes)),
        expected_leftover=course.leftover,
        by_type={
            demand.name: TypePlan(
                demand.events, course.left[demand.name], from_first_call(course.answered.get(demand.name, 0))
            )
            for demand in situation.demands
        },
        releases=tuple(
            PlannedRelease(from_first_call(at), endpoint, events)
            for at, endpoint, events in _releases(course, situation)
        ),
        utilisation=_utilisation(situation, course, choice.workers * capacity.threads, first_call),
        binds=binding_sentence(what_binds(situation, choice, capacity, horizon)),
    )


def _utilisation(situation: Situation, course: Course, lanes: int, first_call: int) -> Utilisation:
    """Compare what is used until the end with what is available: time of all lanes, slots of the endpoints called."""
    end = max([course.forecast, *[start.at + start.takes for start in course.starts]])
    lane_time = lanes * (end - first_call)
    under_way = sum(max(0, min(one.answered_at, end) - first_call) for one in situation.busy)
    busy = under_way + sum(start.events * start.takes for start in course.starts)
    last_call = course.starts[-1].at if course.starts else 0
    slots = sum(
        number
        for name in {route.endpoint for demand in situation.demands if demand.events for route in demand.routes}
        for _, number in situation.windows[name].openings(last_call)
    )
    calls = sum(start.events for start in course.starts)
    return Utilisation(min(1.0, busy / lane_time) if lane_time else 0.0, calls / slots if calls else 0.0)


def _releases(course: Course, situation: Situation) -> Iterator[tuple[int, str, int]]:
    """Return (moment, endpoint, events): the starts at one endpoint in one filling of its window together."""
    least = int(RELEASE_SHARE * situation.deadline)
    fillings: list[list[Start]] = []
    current: dict[str, list[Start]] = {}
    for start in course.starts:
        filling = current.get(start.endpoint)
        if filling is None or start.at - filling[0].at >= max(least, situation.windows[start.endpoint].shortest):
            filling = current[start.endpoint] = []
            fillings.append(filling)
        filling.append(start)
    return ((filling[0].at, filling[0].endpoint, sum(start.events for start in filling)) for filling in fillings)
