"""What no schedule can beat, however clever: the least leftover, and the soonest end for given counts.

Alone and with a lane for every event, a type takes each slot the moment it opens: no schedule begins its k-th call
sooner. And the calls that cannot begin before some moment must all be worked off after it, on the lanes there are.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from rlm.plan.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.plan.simulate import Demand, Situation


class Bound:
    """The bounds of one situation. Times in ticks."""

    def __init__(self, situation: Situation) -> None:
        self._demands = situation.demands
        self._deadline = situation.deadline
        self._alone = {demand.name: simulate(situation.only(demand), demand.events) for demand in situation.demands}
        self._fit = {demand.name: demand.events - self._alone[demand.name].leftover for demand in situation.demands}
        self.events = sum(demand.events for demand in situation.demands)

    @property
    def leftover_of_limits(self) -> int:
        """The fewest events left over with a lane for every event."""
        return self.events - sum(self._fit.values())

    def leftover(self, lanes: int) -> int:
        """Return the fewest events left over on that many lanes, were the shortest calls to go first."""
        work, fit = lanes * self._deadline, 0
        for demand in sorted(self._demands, key=lambda demand: demand.takes):
            begun = min(self._fit[demand.name], work // demand.takes)
            work -= begun * demand.takes
            fit += begun
        return self.events - fit

    @functools.cached_property
    def of_all(self) -> EventsBound:
        """The bound on the end of all that the limits let through before the deadline."""
        return self.of_events(self._fit)

    def of_events(self, done: Mapping[str, int]) -> EventsBound:
        """Return the bound on the end of that many events of each type, no more than fit."""
        return EventsBound([(demand, *group) for demand in self._demands for group in self._first(demand, done)])

    def _first(self, demand: Demand, done: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        """Yield when the first `done` events of a type can begin at the soonest, in groups."""
        lacking = done[demand.name]
        for start in self._alone[demand.name].starts:
            if lacking <= 0:
                return
            yield start.at, min(start.events, lacking)
            lacking -= start.events


class EventsBound:
    """The soonest end of a set of events, by the number of lanes."""

    def __init__(self, soonest: list[tuple[Demand, int, int]]) -> None:
        latest_first = sorted(((at, events * demand.takes) for demand, at, events in soonest), reverse=True)
        work_from = itertools.accumulate(work for _, work in latest_first)
        self._work_from = [(at, work) for (at, _), work in zip(latest_first, work_from, strict=True)]
        self._unlimited = max((at + demand.takes for demand, at, _ in soonest), default=0)

    def end(self, lanes: int) -> int:
        """Return when the last event is answered at the soonest, ticks."""
        return max([self._unlimited, *[at - -work // lanes for at, work in self._work_from]])
