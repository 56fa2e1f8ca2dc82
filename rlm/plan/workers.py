"""The fewest workers that lose nothing: no event more left over, and the end no later than is worth a worker.

More lanes do not always help: a long call of a lower type may take the lane that a higher one could have used a moment
later, and the end comes later than with one lane less. Every schedule by priority has such anomalies. So what counts is
the best that any allowed number of workers can do, and to allow more never makes a plan worse.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rlm.plan.bound import Bound
from rlm.plan.gate import ticks
from rlm.plan.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.plan.bound import EventsBound
    from rlm.plan.simulate import Course, Situation
    from rlm.plan.values import Capacity, Horizon

#: Where the limits, not the workers, keep the end from the target: the share of the slack left before the deadline that
#: may be spent on fewer workers. The rest is kept for retries.
SLACK_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Choice:
    """The number of workers, what they come to, the best any allowed number could, and what nobody could beat."""

    workers: int
    course: Course
    best: Course
    bound: EventsBound


def choose_workers(situation: Situation, capacity: Capacity, horizon: Horizon) -> Choice:
    """Find the fewest workers that leave over what the best number does and end by the goal."""
    run = functools.cache(lambda workers: simulate(situation, workers * capacity.threads))
    bound = Bound(situation)
    fewest = min(capacity.max_workers, max(capacity.min_workers, 1 if bound.events else 0))
    target = ticks(horizon.target_seconds)
    best = _best(run, bound, range(fewest, capacity.max_workers + 1), capacity.threads, target)
    soonest = bound.of_events(situation.done(best))
    slack = situation.deadline - best.forecast
    goal = target if best.forecast <= target else best.forecast + int(SLACK_SHARE * slack)
    for workers in range(fewest, capacity.max_workers):
        lanes = workers * capacity.threads
        if bound.leftover(lanes) > best.leftover or soonest.end(lanes) > goal:
            continue
        course = run(workers)
        if course.left == best.left and course.forecast <= goal:
            return Choice(workers, course, best, soonest)
    return Choice(capacity.max_workers, run(capacity.max_workers), best, soonest)


def _best(run: Callable[[int], Course], bound: Bound, allowed: range, threads: int, target: int) -> Course:
    """Return the best course of the allowed numbers of workers, looking at fewer while that could change the choice."""
    most_first = reversed(allowed)
    best = run(next(most_first))
    for workers in most_first:
        lanes = workers * threads
        if bound.leftover(lanes) > best.leftover:
            break
        if best.leftover == bound.leftover_of_limits and best.forecast <= max(target, bound.of_all.end(lanes)):
            break
        best = min(best, run(workers), key=_rank)
    return best


def _rank(course: Course) -> tuple[int, list[int], int]:
    """Order courses, the best first: fewest left over, then fewest of the highest type, then the soonest end."""
    return course.leftover, list(course.left.values()), course.forecast
