"""The fewest workers that lose nothing: no event more left over, and the end no later than is worth a worker.

More lanes do not always help: a long call of a lower type may take the lane that a higher one could have used a moment
later, and the end comes later than with one lane less. Every schedule by priority has such anomalies. So the goal is
set by what no schedule can beat, or else by the best that any number of workers looked at can do; where each number is
looked at, to allow more never makes a plan worse.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rlm.plan.bound import Bound
from rlm.plan.gate import ticks
from rlm.plan.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rlm.plan.bound import EventsBound
    from rlm.plan.course import Course
    from rlm.plan.situation import Situation
    from rlm.plan.values import Capacity, Horizon

#: Where the limits, not the workers, keep the end from the target: the share of the slack left before the deadline that
#: may be spent on fewer workers. The rest is kept for retries.
SLACK_SHARE: Final = 0.25
#: The numbers of workers looked at: each one up to twice this, beyond that in steps of one part in so many.
FINENESS: Final = 32
#: The same where there is little time.
LEAST_FINENESS: Final = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """The number of workers, what they come to, the best any allowed number could, and what nobody could beat.

    `alone` is what each type would come to if it had its endpoints to itself and a lane for every event.
    """

    workers: int
    course: Course
    best: Course
    alone: Course
    bound: EventsBound


def choose_workers(situation: Situation, capacity: Capacity, horizon: Horizon) -> Choice:
    """Find the fewest workers that leave over no more than must be, or than any number does, and end by the goal."""
    return _Search(situation, capacity, horizon).choose()


class _Search:
    """The numbers of workers allowed, few to many, and what each comes to."""

    def __init__(self, situation: Situation, capacity: Capacity, horizon: Horizon) -> None:
        self._run: Callable[[int], Course] = functools.cache(
            lambda workers: simulate(situation, workers * capacity.threads)
        )
        self._bound = Bound(situation)
        self._threads = capacity.threads
        self._deadline = situation.deadline
        self._target = ticks(horizon.target_seconds)
        needed = 1 if situation.events or situation.busy else 0
        self._most = capacity.max_workers
        fineness = LEAST_FINENESS if situation.must_be_quick else FINENESS
        self._allowed = list(_numbers(min(self._most, max(capacity.min_workers, needed)), self._most, fineness))

    def choose(self) -> Choice:
        return self._at_the_bound() or self._at_the_best()

    def _at_the_bound(self) -> Choice | None:
        """Find the fewest that leave over what the limits do and end by the goal."""
        bound = self._bound
        goal = self._goal(bound.of_all)
        for workers in self._allowed:
            lanes = workers * self._threads
            if bound.leftover(lanes) > bound.leftover_of_limits or bound.of_all.end(lanes) > goal:
                continue
            course = self._run(workers)
            if course.left == bound.left and course.forecast <= goal:
                best = course if course.forecast <= self._target else self._run(self._most)
                return Choice(workers, course, best, bound.alone, bound.of_all)
        return None

    def _at_the_best(self) -> Choice:
        """Where none comes up to that, find the best, and then the fewest that leave over no more and end by the goal.

        The goal is that of what the best gets done, or the best's own end where that is later.
        """
        best = self._best()
        soonest = self._bound.of_course(best)
        goal = max(self._goal(soonest), best.forecast)
        may_do = (one for one in self._allowed if self._may_do(one, best))
        enough = (one for one in may_do if self._run(one).left == best.left and self._run(one).forecast <= goal)
        workers = next(enough, self._most)
        return Choice(workers, self._run(workers), best, self._bound.alone, soonest)

    def _best(self) -> Course:
        """Return the best course of all numbers."""
        best = self._run(self._most)
        for workers in reversed(self._allowed):
            if not self._may_do(workers, best):
                break
            best = min(best, self._run(workers), key=_rank)
        return best

    def _may_do(self, workers: int, best: Course) -> bool:
        """Tell whether so many workers could leave over as little: what is too few for it needs no look."""
        return self._bound.leftover(workers * self._threads) <= best.leftover

    def _goal(self, bound: EventsBound) -> int:
        """Say when it is to be done: by the target, or if that cannot be, later than the bound by part of the slack."""
        soonest = bound.end(self._most * self._threads)
        return self._target if soonest <= self._target else soonest + int(SLACK_SHARE * (self._deadline - soonest))


def _numbers(fewest: int, most: int, fineness: int) -> Iterator[int]:
    number = fewest
    while number < most:
        yield number
        number += max(1, number // fineness)
    yield most


def _rank(course: Course) -> tuple[int, list[int], int]:
    """Order courses, the best first: fewest left over, then fewest of the highest type, then the soonest end."""
    return course.leftover, list(course.left.values()), course.forecast
