"""The plan: what a backlog needs and when it will be done. A pure function of counts, without clock or I/O.

The run, `rlm plan`, the dashboard's what-if and the forecast all call `compute_plan`. It simulates what lanes
will do (`simulate`), chooses the number of workers and finds what keeps the run from ending sooner (`binds`).
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from rlm.core.documents import PlannedRelease, TypePlan
from rlm.core.text import counted
from rlm.plan.binds import what_binds
from rlm.plan.simulate import Course, Start, simulate
from rlm.plan.situation import Capacity, Demand, Horizon, Situation, Workload
from rlm.plan.window import NEVER, SECOND, openings, ticks

#: The most points in the course of a plan.
COURSE_POINTS: Final = 24
#: A planned release covers an endpoint's calls over this share of the available time.
RELEASE_SHARE: Final = 0.25
#: *Longest queue first* is worth its disorder if the end comes sooner by more than this part.
WORTH_DISORDER: Final = 0.01


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
    soonest = _soonest_end(situation, course, capacity.lanes)

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


def choose_workers(situation: Situation, capacity: Capacity, target: int) -> tuple[int, Course, Course]:
    """Return the number of workers, their course, and the course of the most workers; `target` is in ticks.

    They are the fewest that leave as little over as the most would, and are done by the target. If the limits keep the
    end beyond it, there is no time to spare: then there are as many lanes as can be busy at once, so that a late start,
    a slow call or a retry does not leave over what the limits admit.
    """
    most = capacity.max_workers
    course_of = functools.cache(lambda workers: best_course(situation, workers * capacity.threads))
    best, needed = course_of(most), 1 if situation.events or situation.busy else 0
    goal, fewest = max(target, best.forecast), min(most, max(capacity.min_workers, needed))

    def is_enough(workers: int) -> bool:
        return course_of(workers).left == best.left and course_of(workers).forecast <= goal

    if best.forecast > target:
        busy = min(most, max(fewest, -(-_most_at_once(situation) // capacity.threads)))
        workers = busy if is_enough(busy) else most
    else:
        workers = fewest + bisect_left(range(fewest, most), True, key=is_enough)
    return workers, course_of(workers), best


def best_course(situation: Situation, lanes: int) -> Course:
    """Return the course with that many lanes: by priority, or with the longest queue first where that is better.

    It is better only where everything fits with it, and does not by priority or is done later.
    """
    course = simulate(situation, lanes)
    if sum(demand.events > 0 for demand in situation.demands) <= 1:
        return course
    other = simulate(situation, lanes, most=True)
    is_better = not course.fits or other.forecast <= (1 - WORTH_DISORDER) * course.forecast
    return other if other.fits and is_better else course


def _most_at_once(situation: Situation) -> int:
    """Return how many calls can be under way at once: as many as the endpoints let begin during one call's time."""
    busy = len(situation.busy)
    for demand in situation.demands:
        windows = ((situation.windows[route.windows[0]], route.takes) for route in demand.routes)
        busy += min(demand.events, sum(min(rule.most_within(takes) for rule in rules) for rules, takes in windows))
    return busy


def _soonest_slot(situation: Situation) -> int:
    """Return when an event that waits may be sent, whatever the deadline; 0 if that is unknown."""
    routes = [route for demand in situation.demands if demand.events for route in demand.routes]
    opens = [max(rule.opens for name in route.windows for rule in situation.windows[name]) for route in routes]
    return min((at for at in opens if at < NEVER), default=0)


def _soonest_end(situation: Situation, course: Course, lanes: int) -> int:
    """Return the earliest time at which any schedule could have answered the events that are answered in a course.

    Alone and with a lane for every event, a type takes each slot of its endpoints when it opens; no schedule begins its
    k-th call sooner, whatever fails. Also, the calls that cannot begin before a moment must all be done after it on the
    available lanes.
    """
    work, end = 0, 0
    soonest = [
        (at, events, demand.takes) for demand in situation.demands for at, events in _first(demand, situation, course)
    ]
    for at, events, takes in sorted(soonest, reverse=True):
        work += events * takes
        end = max(end, at + takes, at - -work // lanes if lanes else 0)
    return end


def _first(demand: Demand, situation: Situation, course: Course) -> Iterator[tuple[int, int]]:
    """Yield (moment, events): the earliest beginnings of the events of a type that a course answers."""
    late = sum(
        busy.type == demand.name and busy.is_answered and busy.ends_at > situation.deadline for busy in situation.busy
    )
    lacking = demand.events + late - course.left[demand.name]
    opening = Counter[int]()
    for route in demand.routes:
        for at, slots in openings(situation.windows[route.windows[0]], route.latest) if lacking > 0 else ():
            opening[at] += slots
    for at, slots in sorted(opening.items()):
        if lacking <= 0:
            return
        yield at, min(slots, lacking)
        lacking -= slots


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
