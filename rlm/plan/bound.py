"""What no schedule can beat, however clever: the least leftover, and the soonest end for given counts.

Alone and with a lane for every event, a type takes each slot the moment it opens: no schedule begins its k-th call
sooner, whatever fails. And the calls that cannot begin before some moment must all be worked off after it, on the lanes
there are.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from rlm.plan.course import Course, Start
from rlm.plan.gate import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.plan.situation import Demand, Situation


class Bound:
    """The bounds of one situation. Times in ticks."""

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
        """By type the fewest events left over with a lane for every event, calls under way that come late included."""
        return {one.name: one.events - self._fit[one.name] + self._late[one.name] for one in self._demands}

    @functools.cached_property
    def leftover_of_limits(self) -> int:
        """The same for all types."""
        return sum(self.left.values())

    def leftover(self, lanes: int) -> int:
        """Return the fewest events left over on that many lanes, were the shortest calls to go first."""
        work, leftover = lanes * self._deadline, self.leftover_of_limits
        for demand in self._shortest_first:
            begun = min(self._fit[demand.name], work // demand.takes)
            work -= begun * demand.takes
            leftover += self._fit[demand.name] - begun
        return leftover

    @functools.cached_property
    def of_all(self) -> EventsBound:
        """The bound on the end of all that the limits let through before the deadline."""
        return self.of_events(self._fit)

    @functools.cached_property
    def alone(self) -> Course:
        """What each type comes to if it has its endpoints to itself, all alike, and a lane for every event."""
        starts, answered = [], {}
        for demand in self._demands:
            for at, events in self._first(demand, self._fit):
                starts.append(Start(at, demand.name, demand.routes[0].gate, events, demand.takes))
                answered[demand.name] = at + demand.takes
        return Course(sorted(starts), self.left, answered)

    def of_course(self, course: Course) -> EventsBound:
        """Return the bound on the end of the events that a course gets answered."""
        late = self._late
        return self.of_events({one.name: one.events + late[one.name] - course.left[one.name] for one in self._demands})

    def of_events(self, done: Mapping[str, int]) -> EventsBound:
        """Return the bound on the end of that many events of each type, no more than fit."""
        return EventsBound([(demand, *group) for demand in self._demands for group in self._first(demand, done)])

    def _first(self, demand: Demand, done: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        """Yield when the first `done` events of a type can begin at the soonest, in groups."""
        lacking = done[demand.name]
        for at, slots in self._openings.get(demand.name, ()):
            if lacking <= 0:
                return
            yield at, min(slots, lacking)
            lacking -= slots


class EventsBound:
    """The soonest end of a set of events, by the number of lanes."""

    def __init__(self, soonest: list[tuple[Demand, int, int]]) -> None:
        latest_first = sorted(((at, events * demand.takes) for demand, at, events in soonest), reverse=True)
        work_from = itertools.accumulate(work for _, work in latest_first)
        self._work_from = [(at, work) for (at, _), work in zip(latest_first, work_from, strict=True)]
        #: The soonest end with a lane for every event.
        self.unlimited = max((at + demand.takes for demand, at, _ in soonest), default=0)

    def end(self, lanes: int) -> int:
        """Return when the last event is answered at the soonest, ticks."""
        if not lanes:
            return NEVER if self._work_from else 0
        return max([self.unlimited, *[at - -work // lanes for at, work in self._work_from]])


def _openings(demand: Demand, situation: Situation) -> Sequence[tuple[int, int]]:
    """Say when slots open for a type alone, soonest first: the moments, and how many at each."""
    opening: Counter[int] = Counter()
    of_budget: dict[str, Counter[int]] = defaultdict(Counter)
    latest = max(route.latest for route in demand.routes)
    for route in demand.routes:
        into = opening if route.budget is None else of_budget[route.budget]
        for at, slots in situation.gates[route.gate].openings(route.latest):
            into[at] += slots
    for budget, own in of_budget.items():
        opening.update(_capped(own, Counter(dict(situation.gates[budget].openings(latest)))))
    return sorted(opening.items())


def _capped(own: Counter[int], budget: Counter[int]) -> Counter[int]:
    """Say when slots open under both, by the sums of each up to any moment."""
    opening: Counter[int] = Counter()
    sum_own = sum_budget = 0
    for at in sorted({*own, *budget}):
        before = min(sum_own, sum_budget)
        sum_own += own[at]
        sum_budget += budget[at]
        opening[at] = min(sum_own, sum_budget) - before
    return +opening
