"""The number of workers: the fewest that leave as little over as the most would, and are done by the target.

If the limits keep the end beyond the target, there is no time to spare. Then the plan has as many lanes as can be busy
at once, so that a late start, a slow call or a retry does not leave over what the limits admit. They cost little.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from typing import Final

from rlm.plan.simulate import Course, simulate
from rlm.plan.situation import Capacity, Situation

#: *Longest queue first* is worth its disorder if the end comes sooner by more than this part.
WORTH_DISORDER: Final = 0.01


def choose_workers(situation: Situation, capacity: Capacity, target: int) -> tuple[int, Course, Course]:
    """Return the number of workers, their course, and the course of the most workers; `target` is in ticks."""
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
    return len(situation.busy) + sum(
        min(
            demand.events,
            sum(
                min(rule.most_within(end.takes) for rule in situation.windows[end.windows[0]]) for end in demand.routes
            ),
        )
        for demand in situation.demands
    )
