"""The number of workers: enough for the smallest possible leftover, and the fewest that end by the target.

If the limits keep the end beyond the target, there is no time to spare. Then the plan has as many lanes as can be busy
at once, so that a late start, a slow call or a retry does not leave over what the limits admit. They cost little.

More lanes do not always help: a long call of a lower type may take a lane that a higher type could have used a moment
later, so the end is later than with one lane less. Every schedule by priority has such anomalies. So the goal is the
bound that no schedule can beat (`Bound`), or else the best result of any examined number of workers. If every number is
examined, allowing more never makes a plan worse.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

import msgspec

from rlm.plan.bound import Bound, most_at_once
from rlm.plan.simulate import Course, simulate
from rlm.plan.situation import Capacity, Horizon, Situation
from rlm.plan.window import ticks

#: Up to twice this, every number of workers is examined; beyond that, steps are one part in this many.
FINENESS: Final = 32
#: The same when there is little time, or a simulation takes long: it has more than `MANY_STARTS` starts.
LEAST_FINENESS: Final = 2
MANY_STARTS: Final = 1000
#: *Longest queue first* is worth its disorder if the end comes sooner by more than this part.
WORTH_DISORDER: Final = 0.01


class Choice(msgspec.Struct, frozen=True):
    """The number of workers, their course, the best course of any allowed number, and the bounds."""

    workers: int
    course: Course
    best: Course
    bound: Bound


def choose_workers(situation: Situation, capacity: Capacity, horizon: Horizon) -> Choice:
    """Return the number of workers with the smallest leftover possible, or of any number, that end by the goal.

    The goal is the target, or the soonest end if that is later. For the target it is the fewest workers; if the target
    cannot be met, as many as can have a call each.
    """
    bound, threads, most = Bound(situation), capacity.threads, capacity.max_workers
    course_of = functools.cache(lambda workers: best_course(situation, workers * threads, bound))
    target = ticks(horizon.target_seconds)
    needed = 1 if situation.events or situation.busy else 0
    fewest = min(most, max(capacity.min_workers, needed))

    best, best_workers = course_of(most), most
    goal = max(target, bound.of_all.end(most * threads))
    must_be_quick = situation.must_be_quick or len(best.starts) > MANY_STARTS
    if best.left != bound.left or best.forecast > goal:
        for workers in reversed(list(_numbers(fewest, most, LEAST_FINENESS if must_be_quick else FINENESS))):
            if bound.leftover(workers * threads) > best.leftover:  # fewer cannot do as well either
                break
            if _rank(course_of(workers)) < _rank(best):
                best, best_workers = course_of(workers), workers
        goal = max(target, bound.of_course(best).end(most * threads), best.forecast)

    soonest = bound.of_course(best)
    apt = [
        workers
        for workers in _numbers(fewest, most, FINENESS)
        if bound.leftover(workers * threads) <= best.leftover and soonest.end(workers * threads) <= goal
    ]

    def is_enough(workers: int) -> bool:
        return course_of(workers).left == best.left and course_of(workers).forecast <= goal

    if goal > target:
        busy = -(-most_at_once(situation) // threads)
        apt = [workers for workers in reversed(apt) if workers <= max(fewest, busy)]
        apt = apt[:LEAST_FINENESS] if must_be_quick else apt
    elif must_be_quick and apt and not is_enough(apt[0]):  # the first is enough in most cases
        apt = apt[bisect_left(apt, True, key=is_enough) :]
    workers = next(filter(is_enough, apt), best_workers)
    return Choice(workers, course_of(workers), best, bound)


def best_course(situation: Situation, lanes: int, bound: Bound) -> Course:
    """Return the course with that many lanes: by priority, or with the longest queue first where that is better.

    It is better only where everything fits with it, and does not by priority or is done later.
    """
    course = simulate(situation, lanes)
    limit = (1 - WORTH_DISORDER) * course.forecast
    if sum(demand.events > 0 for demand in situation.demands) <= 1 or bound.leftover(lanes):
        return course
    if course.fits and bound.of_all.end(lanes) > limit:
        return course
    other = simulate(situation, lanes, most=True)
    return other if other.fits and (not course.fits or other.forecast <= limit) else course


def _numbers(fewest: int, most: int, fineness: int) -> Iterator[int]:
    number = fewest
    while number < most:
        yield number
        number += max(1, number // fineness)
    yield most


def _rank(course: Course) -> tuple[int, list[int], int]:
    """Return a key that sorts courses, best first: least leftover, then least of the highest type, then soonest end."""
    return course.leftover, list(course.left.values()), course.forecast
