"""A bound on the end that no schedule can beat. Times in ticks.

Alone and with a lane for every event, a type takes each slot when it opens; no schedule begins its k-th call sooner,
whatever fails. Also, the calls that cannot begin before a moment must all be done after it on the available lanes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from rlm.plan.simulate import Course
from rlm.plan.situation import Demand, Situation


def soonest_end(situation: Situation, course: Course, lanes: int) -> int:
    """Return the earliest possible time of the last answer to the events that are answered in a course."""
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
    late = sum(busy.type == demand.name and busy.answered_at > situation.deadline for busy in situation.busy)
    lacking = demand.events + late - course.left[demand.name]
    if lacking > 0:
        for at, slots in sorted(_openings(demand, situation).items()):
            yield at, min(slots, lacking)
            lacking -= slots
            if lacking <= 0:
                return


def _openings(demand: Demand, situation: Situation) -> Counter[int]:
    """Return the slots by the moment at which they open, for a type alone."""
    opening: Counter[int] = Counter()
    of_budget: dict[str, Counter[int]] = defaultdict(Counter)
    latest = max(route.latest for route in demand.routes)
    for route in demand.routes:
        into = opening if route.budget is None else of_budget[route.budget]
        for at, slots in situation.windows[route.endpoint].openings(route.latest):
            into[at] += slots
    for budget, own in of_budget.items():
        opening.update(_capped(own, Counter(dict(situation.windows[budget].openings(latest)))))
    return opening


def _capped(own: Counter[int], budget: Counter[int]) -> Counter[int]:
    """Return the openings that both allow, from the cumulative sums of each."""
    opening: Counter[int] = Counter()
    sum_own = sum_budget = 0
    for at in sorted({*own, *budget}):
        before = min(sum_own, sum_budget)
        sum_own += own[at]
        sum_budget += budget[at]
        opening[at] = min(sum_own, sum_budget) - before
    return +opening
