"""The plan: what a backlog needs and when it will be done. A pure function of counts, without clock or I/O.

The run, `rlm plan`, the dashboard's what-if and the forecast all call `compute_plan`. It simulates what lanes
will do (`simulate`), chooses the number of workers (`workers`) and finds what keeps the run from ending sooner
(`binds`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from rlm.core.text import counted
from rlm.plan.binds import what_binds
from rlm.plan.bound import soonest_end
from rlm.plan.simulate import Start
from rlm.plan.situation import Capacity, Horizon, Situation, Workload
from rlm.plan.window import NEVER, SECOND, ticks
from rlm.plan.workers import choose_workers

#: The most points in the course of a plan.
COURSE_POINTS: Final = 24
#: A planned release covers an endpoint's calls over this share of the available time.
RELEASE_SHARE: Final = 0.25


class TypePlan(msgspec.Struct, frozen=True):
    """One type's part in a plan. `forecast_seconds` is when its last event that fits is answered, 0 if none does."""

    events: int
    expected_leftover: int
    forecast_seconds: float


class PlannedRelease(msgspec.Struct, frozen=True):
    """How many events go to an endpoint in one part of the time; the first goes at `at_seconds`."""

    at_seconds: float
    endpoint: str
    events: int


class Plan(msgspec.Struct, frozen=True):
    """How many workers the backlog needs, when it will be done, what will be left over, and why not sooner.

    `first_call_seconds` counts from the moment planned for to the first free slot, even after the deadline; all other
    times count from that first call. `forecast_seconds` is when the last event that fits is answered. With the most
    workers allowed, no schedule could answer the same events before `lower_bound_seconds`. `binds` is a sentence that
    says what keeps the end from being earlier. `most`: the longest queue goes first, instead of the highest priority.
    `course` has at most `COURSE_POINTS` pairs of a time and the calls answered by then.
    """

    workers: int
    threads: int
    first_call_seconds: float
    forecast_seconds: float
    lower_bound_seconds: float
    expected_leftover: int
    by_type: Mapping[str, TypePlan]
    releases: tuple[PlannedRelease, ...]
    binds: str
    most: bool = False
    course: tuple[tuple[float, int], ...] = ()

    @property
    def fits(self) -> bool:
        """Whether no event is expected to be left over."""
        return self.expected_leftover == 0


def compute_plan(workload: Workload, capacity: Capacity, horizon: Horizon) -> Plan:
    """Plan a run, or a hypothetical run.

    Times in the plan count from its first call, which is later than the moment planned for if the windows are full.
    Times in `binds` count from the run's start.

    If types compete for lanes, more lanes or a higher limit can make a plan a little worse: a long call of a lower type
    takes a lane that a higher one could have used a moment later.
    """
    situation = Situation.of(workload, horizon, capacity.turnaround_seconds)
    target = ticks(horizon.target_seconds)
    workers, course, best = choose_workers(situation, capacity, target)
    first_call = min((start.at for start in course.starts), default=_soonest_slot(situation))
    soonest = soonest_end(situation, course, capacity.lanes)

    def from_first_call(moment: int) -> float:
        return round(max(0, moment - first_call) / SECOND, 3)

    releases: dict[tuple[str, int], tuple[int, int]] = {}
    for start in course.starts:
        key = start.endpoint, (start.at - first_call) // max(1, int(RELEASE_SHARE * situation.deadline))
        at, events = releases.get(key, (start.at, 0))
        releases[key] = at, events + start.calls
    return Plan(
        workers=workers,
        threads=capacity.threads,
        first_call_seconds=first_call / SECOND,
        forecast_seconds=from_first_call(max(course.forecast, soonest)),  # a coarse course may be a little early
        lower_bound_seconds=from_first_call(soonest),
        expected_leftover=course.leftover,
        by_type={
            demand.name: TypePlan(
                demand.events, course.left[demand.name], from_first_call(course.answered.get(demand.name, 0))
            )
            for demand in situation.demands
        },
        releases=tuple(PlannedRelease(from_first_call(at), key[0], events) for key, (at, events) in releases.items()),
        binds=what_binds(situation, course, best, capacity, target),
        most=course.most,
        course=tuple((from_first_call(at), number) for at, number in _points(course.starts)),
    )


def _soonest_slot(situation: Situation) -> int:
    """Return when an event that waits may be sent, whatever the deadline; 0 if that is unknown."""
    routes = [route for demand in situation.demands if demand.events for route in demand.routes]
    opens = [max(rule.opens for name in route.windows for rule in situation.windows[name]) for route in routes]
    return min((at for at in opens if at < NEVER), default=0)


def _points(starts: Sequence[Start]) -> list[tuple[int, int]]:
    """Return (moment, calls answered by then): the last answer in each of `COURSE_POINTS` equal parts of the calls."""
    answers = sorted((start.at + start.takes, start.calls) for start in starts)
    whole, done, points = sum(calls for _, calls in answers), 0, dict[int, tuple[int, int]]()
    for at, calls in answers:
        done += calls
        points[math.ceil(done * COURSE_POINTS / whole)] = at, done
    return list(points.values())


class Outlook(msgspec.Struct, frozen=True):
    """The number of `windows` after which nothing is left over; None if that never happens."""

    windows: int | None

    @property
    def sentence(self) -> str:
        """The answer in words."""
        gone = "does not shrink" if self.windows is None else f"is gone in {counted(self.windows, 'window')}"
        return f"At the arrivals of the last runs the backlog {gone}."


def look_ahead(plan: Plan, arrivals: Mapping[str, float]) -> Outlook:
    """Return the outlook of a plan if so many events of each type arrive in every window, each like the planned one."""
    windows = 1
    for name, part in plan.by_type.items():
        if part.expected_leftover:
            shrinks = part.events - part.expected_leftover - arrivals.get(name, 0.0)
            if shrinks <= 0:
                return Outlook(None)
            windows = max(windows, 1 + math.ceil(part.expected_leftover / shrinks))
    return Outlook(windows)
