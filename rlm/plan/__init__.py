"""The plan: what a backlog needs and when it will be done. A pure function of counts, without a clock and without I/O.

The run, `rlm plan`, the dashboard's what-if and the forecast all ask `compute_plan`. It simulates what the conductor
will do (`simulate`), picks the fewest workers that lose nothing (`workers`), bounds what any schedule could do
(`bound`) and says what keeps the end from being sooner (`binds`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rlm.core.expected import Expected
from rlm.plan.binds import what_binds
from rlm.plan.gate import SECOND
from rlm.plan.situation import Situation
from rlm.plan.values import Capacity, Horizon, Plan, Progress, Release, TypePlan, Underway, Utilisation, Window
from rlm.plan.workers import choose_workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.endpoint import EventType
    from rlm.plan.course import Course, Start

__all__ = [
    "Capacity",
    "Expected",
    "Horizon",
    "Plan",
    "Progress",
    "Release",
    "TypePlan",
    "Underway",
    "Utilisation",
    "Window",
    "compute_plan",
]

#: One release covers the calls to an endpoint over at least this share of the time there is, however short its period.
RELEASE_SHARE: Final = 0.25


def compute_plan(
    backlog: Mapping[str, int],
    types: Sequence[EventType],
    windows: Mapping[str, Window],
    capacity: Capacity,
    horizon: Horizon,
    *,
    workers: int | None = None,
    expected: Mapping[tuple[str, str], Expected] | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Plan a run, or see what a run would be.

    Times in the plan count from its first call, which comes later than the moment planned for where the windows are
    full; `binds` speaks of times from the run's start.

    More workers allowed never make a plan worse, as long as each number of them is looked at (`workers.FINENESS`); nor
    do, for one type alone, a higher limit or more endpoints that are as fast. Among types that compete for lanes a
    higher limit can: the higher type then takes lanes from those below it.

    Args:
        backlog: events waiting, by type. A type that is not among `types` is left out; a run makes those dead letters.
        types: the configured types, high to low priority.
        windows: what the windows of endpoints and budgets hold, by name. One that is missing is fresh.
        capacity: how many workers are allowed.
        horizon: the time there is, counted from the moment planned for.
        workers: plan for exactly this number, whatever `capacity` allows: a what-if.
        expected: what calls were measured to be like, by type and endpoint, where that is known.
        progress: how far a run is when the rest of it is planned anew; its calls under way are answered first.
    """
    if workers is not None:
        capacity = replace(capacity, min_workers=workers, max_workers=workers)
    situation = Situation.of(backlog, types, windows, horizon, capacity.turnaround_seconds, expected, progress)
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
        lower_bound_seconds=from_first_call(choice.bound.end(capacity.max_workers * capacity.threads)),
        expected_leftover=course.leftover,
        by_type={
            demand.name: TypePlan(
                demand.events, course.left[demand.name], from_first_call(course.answered.get(demand.name, 0))
            )
            for demand in situation.demands
        },
        releases=tuple(
            Release(from_first_call(at), endpoint, events) for at, endpoint, events in _releases(course, situation)
        ),
        utilisation=_utilisation(situation, course, choice.workers * capacity.threads, first_call),
        binds=what_binds(situation, choice, capacity, horizon),
    )


def _utilisation(situation: Situation, course: Course, lanes: int, first_call: int) -> Utilisation:
    """Compare what is used until the end with what there is: the time of all lanes, the slots of endpoints asked."""
    end = max([course.forecast, *[start.at + start.takes for start in course.starts]])
    lane_time = lanes * (end - first_call)
    under_way = sum(max(0, min(one.answered_at, end) - first_call) for one in situation.busy)
    busy = under_way + sum(start.events * start.takes for start in course.starts)
    last_call = course.starts[-1].at if course.starts else 0
    slots = sum(
        number
        for name in {route.gate for demand in situation.demands if demand.events for route in demand.routes}
        for _, number in situation.gates[name].openings(last_call)
    )
    calls = sum(start.events for start in course.starts)
    return Utilisation(min(1.0, busy / lane_time) if lane_time else 0.0, calls / slots if calls else 0.0)


def _releases(course: Course, situation: Situation) -> Iterator[tuple[int, str, int]]:
    """Put the starts at one endpoint together that belong to one filling of its window: moment, endpoint, events."""
    least = int(RELEASE_SHARE * situation.deadline)
    fillings: list[list[Start]] = []
    current: dict[str, list[Start]] = {}
    for start in course.starts:
        filling = current.get(start.gate)
        if filling is None or start.at - filling[0].at >= max(least, situation.gates[start.gate].shortest):
            filling = current[start.gate] = []
            fillings.append(filling)
        filling.append(start)
    return ((filling[0].at, filling[0].gate, sum(start.events for start in filling)) for filling in fillings)
