"""The plan: what a backlog needs, when it will be done, and what binds. A pure function, without clock or I/O.

The run, `rlm plan`, the dashboard's what-if and the forecast all call `compute_plan`. It simulates what lanes will do
(`simulate`), chooses the number of workers and finds what keeps the run from ending sooner.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from rlm.core.documents import Plan, PlannedRelease, RunPlan, TypePlan
from rlm.core.run import Run
from rlm.core.text import counted, named
from rlm.plan.causes import Look
from rlm.plan.simulate import Course, Start, simulate
from rlm.plan.situation import SECOND, Capacity, Demand, Horizon, Situation, Workload

#: The most points in the course of a plan.
COURSE_POINTS: Final = 24
#: A planned release covers an endpoint's calls over this share of the available time.
RELEASE_SHARE: Final = 0.25
#: *Longest queue first* is worth its disorder if the end comes sooner by more than this part.
WORTH_DISORDER: Final = 0.01
#: Something binds if more of it would shorten the time by a tenth or more.
WORTH_IT: Final = 0.9


def compute_plan(workload: Workload, capacity: Capacity, horizon: Horizon) -> Plan:
    """Plan a run, or a hypothetical run.

    Times in the plan count from its first call, which is later than the moment planned for if the windows are full.
    Times in `binds` count from the run's start.

    If types compete for lanes, more lanes or a higher limit can make a plan a little worse: a long call of a lower type
    takes a lane that a higher one could have used a moment later.
    """
    situation = Situation.of(workload, horizon, capacity.turnaround_seconds)
    workers, course, best = choose_workers(situation, capacity)
    first_call = min((start.at for start in course.starts), default=0)
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
        fits=not course.leftover,
        by_type={
            before.name: TypePlan(before.waiting, after.left, from_first_call(after.answered))
            for before, after in zip(situation.demands, course.demands, strict=True)
        },
        releases=tuple(PlannedRelease(from_first_call(at), key[0], events) for key, (at, events) in releases.items()),
        binds=_what_binds(situation, course, best, capacity),
        most=course.most,
        course=tuple((from_first_call(at), number) for at, number in _points(course.starts)),
    )


def forecast(run: Run, look: Look, plan: Plan, answered_us: int, beyond: int) -> RunPlan:
    """Return how a run will end by a plan of what remains; its times count from the run's first call."""
    spent = sum(count.spent for count in look.counts.values())
    binds = plan.binds if plan.fits else look.shortage or plan.binds
    binds += f"; {counted(spent, 'event')} had all attempts of this run" if spent else ""
    binds += f"; {counted(beyond, 'item')} cannot be taken before the deadline" if beyond else ""
    gone, began, now = 0.0, run.first_release_at, run.deadline - look.left_seconds
    if began is not None and plan.forecast_seconds:
        gone = now - began + plan.first_call_seconds
    elif began is not None and answered_us:  # no call remains: it is the last answer
        gone = max(0.0, min(now, run.moment(answered_us)) - began)
    return msgspec.structs.replace(
        msgspec.convert(plan, RunPlan, from_attributes=True),
        forecast_seconds=round(gone + plan.forecast_seconds, 3),
        lower_bound_seconds=round(gone + plan.lower_bound_seconds, 3),
        expected_leftover=plan.expected_leftover + spent,
        binds=binds,
        course=tuple((round(gone + at, 1), number) for at, number in plan.course),
        shortage=look.shortage or None,
    )


def choose_workers(situation: Situation, capacity: Capacity) -> tuple[int, Course, Course]:
    """Return the number of workers, their course, and the course of the most workers.

    They are the fewest that leave as little over as the most would, and are done by the target. If the limits keep the
    end beyond it, there is no time to spare: then there are as many lanes as can be busy at once, so that a late start,
    a slow call or a retry does not leave over what the limits admit.
    """
    most = capacity.max_workers
    course_of = functools.cache(lambda workers: best_course(situation, workers * capacity.threads))
    best, needed = course_of(most), 1 if situation.events or situation.busy else 0
    goal, fewest = max(situation.target, best.forecast), min(most, max(capacity.min_workers, needed))

    def may_be_enough(workers: int) -> bool:
        return _soonest_end(situation, best, workers * capacity.threads) <= goal

    def is_enough(workers: int) -> bool:
        return course_of(workers).left == best.left and course_of(workers).forecast <= goal

    if best.forecast > situation.target:
        workers = min(most, max(fewest, -(-_most_at_once(situation) // capacity.threads)))
    else:  # mostly the fewest that may be enough are; a plan at full load takes half the time by this
        workers = bisect_left(range(most), True, fewest, key=may_be_enough)
    if not is_enough(workers):
        workers = bisect_left(range(most), True, workers + 1, key=is_enough)
    return workers, course_of(workers), best


def best_course(situation: Situation, lanes: int) -> Course:
    """Return the course with that many lanes: by priority, or with the longest queue first where that is better.

    It is better only where everything fits with it, and does not by priority or is done later.
    """
    course = simulate(situation, lanes)
    worth, is_alone = (1 - WORTH_DISORDER) * course.forecast, sum(each.waiting > 0 for each in situation.demands) <= 1
    if is_alone or (not course.leftover and _soonest_end(situation, course, lanes) > worth):
        return course  # no schedule is so much better: a plan at full load takes half the time by this
    other = simulate(situation, lanes, most=True)
    return other if (course.leftover or other.forecast <= worth) and not other.leftover else course


def _most_at_once(situation: Situation) -> int:
    """Return how many calls can be under way at once: as many as the endpoints let begin during one call's time."""
    busy = len(situation.busy)
    for demand in situation.demands:
        windows = ((situation.windows[route.windows[0]], route.takes) for route in demand.routes)
        busy += min(demand.waiting, sum(min(rule.most_within(takes) for rule in rules) for rules, takes in windows))
    return busy


def _soonest_end(situation: Situation, course: Course, lanes: int) -> int:
    """Return the earliest time at which any schedule could have answered the events that are answered in a course.

    Alone and with a lane for every event, a type takes each slot of its endpoints when it opens; no schedule begins its
    k-th call sooner, whatever fails. Also, the calls that cannot begin before a moment must all be done after it on the
    available lanes.
    """
    work, end, soonest = 0, 0, []
    for before, after in zip(situation.demands, course.demands, strict=True):
        begun, takes = before.waiting - after.waiting, min(route.takes for route in before.routes)
        soonest += [(at, slots, takes) for at, slots in _openings(before, situation, begun)]
    for at, events, takes in sorted(soonest, reverse=True):
        work += events * takes
        end = max(end, at + takes, at - -work // lanes if lanes else 0)
    return end


def _openings(demand: Demand, situation: Situation, calls: int) -> Iterator[tuple[int, int]]:
    """Yield (moment, calls): the earliest beginnings of so many calls of a type, if it had its endpoints alone.

    They are the earliest under several rules too: under each, a call waits only for the one a fixed number before it.
    """
    opening = Counter[int]()
    for route in demand.routes if calls else ():
        windows, at = [window.copy() for window in situation.windows[route.windows[0]]], 0
        while (at := max(at, *[window.opens for window in windows])) <= route.latest:
            slots = min(window.free_at(at) for window in windows)
            opening[at] += slots
            for window in windows:
                window.take(at, slots)
    for at, slots in sorted(opening.items()):
        if calls > 0:
            yield at, min(slots, calls)
            calls -= slots


def _points(starts: Sequence[Start]) -> list[tuple[int, int]]:
    """Return (moment, calls answered by then): the last answer in each of `COURSE_POINTS` equal parts of the calls."""
    answers = sorted((start.at + start.takes, start.calls) for start in starts)
    whole, done, points = sum(calls for _, calls in answers), 0, dict[int, tuple[int, int]]()
    for at, calls in answers:
        done += calls
        points[math.ceil(done * COURSE_POINTS / whole)] = at, done
    return list(points.values())


def _what_binds(situation: Situation, course: Course, best: Course, capacity: Capacity) -> str:
    """Return in a sentence what keeps a plan's `course` from ending sooner or leaving less over.

    It is found by comparison with the `best` course, of the most workers, and with a lane for every event.
    """

    def clock(moment: int) -> str:
        """Return a moment in minutes and seconds since the run's start: `1:40`."""
        minutes, seconds = divmod(round((situation.gone + moment) / SECOND), 60)
        return f"{minutes}:{seconds:02}"

    if not course.starts and not course.leftover:
        return f"nothing binds: {'the last calls are under way' if situation.busy else 'there is nothing to do'}"
    plenty = simulate(situation, max(capacity.lanes, situation.events + len(situation.busy)))
    left, is_late = counted(course.leftover, "event"), course.forecast > situation.target
    if (
        2 * plenty.leftover < course.leftover
        if course.leftover
        else is_late and plenty.forecast < WORTH_IT * best.forecast
    ):
        now = f"{left} left over" if course.leftover else f"all is done at {clock(best.forecast)}"
        better = f"{plenty.leftover:,}" if course.leftover else clock(plenty.forecast)
        return f"workers bind: with {counted(capacity.max_workers, 'worker')} {now}; with more it could be {better}"
    if course.leftover:
        deadline = f"the deadline at {clock(situation.deadline)}"
        late = [demand for demand in situation.demands if demand.waiting and course.left[demand.name]]
        if limited := [demand for demand in late if any(route.latest >= 0 for route in demand.routes)]:
            return f"{_limits_of(limited, situation)} until {deadline}: {left} left over"
        return f"{deadline} binds: {left} left over, for which there is no time"
    last = max(plenty.starts, key=lambda start: start.at + start.takes)
    if plenty.forecast < WORTH_IT * course.forecast or last.at < max(last.takes, SECOND):
        return f"nothing binds: all is done at {clock(course.forecast)}"
    begins = {start.type: start.at for start in plenty.starts}
    limited = [demand for demand in situation.demands if begins.get(demand.name, 0) >= WORTH_IT * last.at]
    return f"{_limits_of(limited, situation)} until {clock(last.at)}; more workers change nothing"


def _limits_of(demands: Sequence[Demand], situation: Situation) -> str:
    """Return in words that the limits of types bind, with those of their endpoints and budgets that are shut."""
    names = dict.fromkeys(name for demand in demands for route in demand.routes for name in route.windows)
    budgets = sorted({name for demand in demands for route in demand.routes for name in route.windows[1:]})
    besides = f" and the budget {named(budgets, 3)}" if budgets else ""
    shut = [f"{name} is {situation.shut[name]}" for name in names if name in situation.shut]
    facts = f" ({named(shut, 3)})" if shut else ""
    return f"the limits of {named([demand.name for demand in demands], 3)}{besides} bind{facts}"
