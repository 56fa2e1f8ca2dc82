"""Bounds that no schedule can beat: the least leftover and the soonest end. Times in ticks.

Alone and with a lane for every event, a type takes each slot when it opens; no schedule begins its k-th call sooner,
whatever fails. Also, the calls that cannot begin before a moment must all be done after it on the available lanes.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from rlm.plan.simulate import Course
from rlm.plan.situation import Demand, Situation
from rlm.plan.window import NEVER


class Bound:
    """The bounds of a situation."""

    def __init__(self, situation: Situation) -> None:
        self._demands = situation.demands
        self._shortest_first = sorted(situation.demands, key=lambda demand: demand.takes)
        self._deadline = situation.deadline
        self._openings = {demand.name: _openings(demand, situation) for demand in situation.demands if demand.events}
        self._fit = {
            demand.name: min(demand.events, sum(slots for _, slots in self._openings.get(demand.name, ())))
            for demand in situation.demands
        }
        self._late = Counter(
            busy.type for busy in situation.busy if busy.answered_at > situation.deadline and busy.type
        )

    @functools.cached_property
    def left(self) -> dict[str, int]:
        """By type, the fewest events left over with a lane for every event, including calls under way that end late."""
        return {
            demand.name: demand.events - self._fit[demand.name] + self._late[demand.name] for demand in self._demands
        }

    def leftover(self, lanes: int) -> int:
        """Return the fewest events left over on that many lanes, reached if the shortest calls go first."""
        work, leftover = lanes * self._deadline, sum(self.left.values())
        for demand in self._shortest_first:
            begun = min(self._fit[demand.name], work // demand.takes)
            work -= begun * demand.takes
            leftover += self._fit[demand.name] - begun
        return leftover

    @functools.cached_property
    def of_all(self) -> EventsBound:
        """The bound on the end of all events that the limits admit before the deadline."""
        return self._of_events(self._fit)

    def of_course(self, course: Course) -> EventsBound:
        """Return the bound on the end of the events that are answered in a course."""
        return self._of_events(
            {
                demand.name: demand.events + self._late[demand.name] - course.left[demand.name]
                for demand in self._demands
            }
        )

    def _of_events(self, done: Mapping[str, int]) -> EventsBound:
        """Return the bound on the end of that many events of each type, which must not exceed what fits."""
        return EventsBound([(demand, *group) for demand in self._demands for group in self._first(demand, done)])

    def _first(self, demand: Demand, done: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        """Yield (moment, events): the earliest beginnings of the first `done` events of a type."""
        lacking = done[demand.name]
        for at, slots in self._openings.get(demand.name, ()):
            if lacking <= 0:
                return
            yield at, min(slots, lacking)
            lacking -= slots


class EventsBound:
    """The soonest possible end of a set of events, by the number of lanes."""

    def __init__(self, soonest: list[tuple[Demand, int, int]]) -> None:
        latest_first = sorted(((at, events * demand.takes) for demand, at, events in soonest), reverse=True)
        work_from = itertools.accumulate(work for _, work in latest_first)
        self._work_from = [(at, work) for (at, _), work in zip(latest_first, work_from, strict=True)]
        #: The soonest end with a lane for every event.
        self._unlimited = max((at + demand.takes for demand, at, _ in soonest), default=0)

    def end(self, lanes: int) -> int:
        """Return the earliest possible time of the last answer."""
        if not lanes:
            return NEVER if self._work_from else 0
        return max([self._unlimited, *[at - -work // lanes for at, work in self._work_from]])


def most_at_once(situation: Situation) -> int:
    """Return how many calls can be under way at once: as many as the limits let begin during one call's time."""
    in_all, of_budget, longest = 0, Counter[str | None](), Counter[str | None]()
    for demand in situation.demands:
        slots = Counter[str | None]()
        for route in demand.routes:
            slots[route.budget] += situation.windows[route.endpoint].most_within(route.takes)
            longest[route.budget] = max(longest[route.budget], route.takes)
        in_all += min(demand.events, slots.total())
        of_budget.update({budget: min(demand.events, number) for budget, number in slots.items()})
    for budget in of_budget:
        if budget is not None:
            of_budget[budget] = min(of_budget[budget], situation.windows[budget].most_within(longest[budget]))
    return len(situation.busy) + min(in_all, of_budget.total())


def _openings(demand: Demand, situation: Situation) -> Sequence[tuple[int, int]]:
    """Return (moment, slots) of each opening for a type alone, in ascending order."""
    opening: Counter[int] = Counter()
    of_budget: dict[str, Counter[int]] = defaultdict(Counter)
    latest = max(route.latest for route in demand.routes)
    for route in demand.routes:
        into = opening if route.budget is None else of_budget[route.budget]
        for at, slots in situation.windows[route.endpoint].openings(route.latest):
            into[at] += slots
    for budget, own in of_budget.items():
        opening.update(_capped(own, Counter(dict(situation.windows[budget].openings(latest)))))
    return sorted(opening.items())


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
