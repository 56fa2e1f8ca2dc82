"""A simulation of the rule by which lanes pull their calls, the same as that of the script `turn`.

A lane that is idle begins a call of the first type by rank that has an event waiting and a slot, at the first of the
type's endpoints that has one, if the call can be answered before the deadline. A type that has had less than its share
of the calls goes first. If nothing can begin, the lane waits for the next slot or event.

A long simulation becomes coarser: what happens within a grain of time is treated as one group.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from rlm.plan.situation import NEVER, Demand, Route, SimulatedWindow, Situation

#: A simulation is exact up to so many calls.
EXACT_STARTS: Final = 2000
#: After that its grain is one part in so many of the available time.
GRAINS: Final = 2500
#: *Longest queue first* looks at so many open types.
MOST_LOOKED_AT: Final = 50


class Start(NamedTuple):
    """A number of calls of one type that begin at one endpoint at one moment, and how long each takes. Ticks."""

    at: int
    type: str
    endpoint: str
    takes: int
    calls: int = 1


class Course(msgspec.Struct):
    """The result of a simulation: all starts ordered by time, and what has become of the demands.

    `most`: the longest queue went first.
    """

    starts: list[Start]
    demands: Sequence[Demand]
    most: bool

    @property
    def left(self) -> dict[str, int]:
        """The events of each type that cannot be answered by the deadline."""
        return {demand.name: demand.left for demand in self.demands}

    @property
    def leftover(self) -> int:
        """The events that cannot be answered by the deadline."""
        return sum(demand.left for demand in self.demands)

    @property
    def forecast(self) -> int:
        """When the last event that fits is answered, in ticks; 0 if none fits."""
        return max((demand.answered for demand in self.demands), default=0)


#: An endpoint for the calls of a type, with the windows of its rules and of those of its budget.
_Place: TypeAlias = "tuple[Route, list[SimulatedWindow]]"


class _Simulation:
    """A type is open (`_open`, by rank), or it waits for a slot (`_shut`, by the moment it may come).

    A lane is idle, or busy until a turnaround after the answer; `_busy` has the moments, ascending, and how many lanes.
    There are fewer than no idle lanes if more are busy than there should be.
    """

    def __init__(self, situation: Situation, lanes: int, *, most: bool) -> None:
        windows = {name: [window.copy() for window in each] for name, each in situation.windows.items()}
        self._situation = situation
        self._idle = lanes
        self._busy: list[tuple[int, int]] = []
        self._demands = [replace(demand) for demand in situation.demands]
        self._places = [
            [(route, [*chain(*(windows[name] for name in route.windows))]) for route in demand.routes]
            for demand in situation.demands
        ]
        self._sharing = [rank for rank, demand in enumerate(situation.demands) if demand.share]
        self._begun = sum(demand.begun for demand in situation.demands)
        self._most = most
        self._open = [rank for rank, demand in enumerate(situation.demands) if demand.waiting]
        self._shut: list[tuple[int, int]] = []
        self._starts: list[Start] = []
        self._grain = 1
        self._next_at = 0  #: when the next call can begin
        for ends_at in situation.busy:
            self._use(1, ends_at + situation.turnaround)

    def run(self) -> Course:
        now, busy = 0, self._busy
        while (self._open or self._shut) and (self._idle > 0 or busy):
            now = max(now, self._next_at, 0 if self._idle > 0 else busy[0][0])
            while busy and busy[0][0] <= now:
                self._idle += busy.pop(0)[1]
            while self._shut and self._shut[0][0] <= now:
                insort(self._open, heapq.heappop(self._shut)[1])
            if self._idle > 0:
                if chosen := self._choose(now):
                    self._begin(now, *chosen)
                elif self._shut:
                    now = self._shut[0][0]
        return Course(self._starts, self._demands, self._most)

    def _use(self, lanes: int, until: int) -> None:
        """Use so many lanes until then. Those that become free within a grain do so together, at their mean moment."""
        busy = self._busy
        self._idle -= lanes
        place = bisect_right(busy, until, key=itemgetter(0))
        if place and until - busy[place - 1][0] < self._grain:
            before, others = busy[place - 1]
            busy[place - 1] = before + (until - before) * lanes // (lanes + others), lanes + others
        else:
            busy.insert(place, (until, lanes))

    def _choose(self, now: int) -> tuple[Demand, _Place] | None:
        """Return the type that gets the next call and the endpoint, None if no call can begin now."""
        for rank in self._sharing:
            demand = self._demands[rank]
            is_owed = demand.share * (self._begun + 1) > demand.begun
            if is_owed and rank in self._open and (place := self._place(rank, now)):
                return demand, place
        while self._open:
            rank = self._open[0]
            if self._most:
                rank = max(self._open[:MOST_LOOKED_AT], key=lambda rank: self._demands[rank].waiting)
            if place := self._place(rank, now):
                return self._demands[rank], place
        return None

    def _place(self, rank: int, now: int) -> _Place | None:
        """Return the first endpoint at which a call of an open type can begin now and be answered in time.

        Without one, the type is open no longer, until one opens.
        """
        opens_at = NEVER
        for route, windows in self._places[rank] if self._demands[rank].waiting else ():
            at = max([window.opens for window in windows])
            if max(at, now) <= route.latest:
                if at <= now:
                    return route, windows
                opens_at = min(opens_at, at)
        del self._open[bisect_left(self._open, rank)]
        if opens_at < NEVER:
            heapq.heappush(self._shut, (opens_at, rank))
        return None

    def _begin(self, now: int, demand: Demand, place: _Place) -> None:
        """Begin a call; in a coarse simulation also those that would follow within a grain anyway."""
        idle, grain, (route, windows) = self._idle, self._grain, place
        cost, calls, in_a_row = route.takes + self._situation.turnaround, 1, 1
        free = min([window.free_at(now) for window in windows])
        if grain > 1:
            in_a_row = min(max(1, grain // cost), (route.latest - now) // cost + 1)
            calls = min(idle * in_a_row, demand.waiting, free)
            calls = -(-calls // 2) if self._most or self._sharing else calls  # then types take turns
            in_a_row = -(-calls // idle)
        for window in windows:
            window.take(now + (in_a_row - 1) * cost // 2, calls, grain)
        self._use(-(-calls // in_a_row), now + in_a_row * cost)
        demand.begun += calls
        demand.waiting -= calls
        demand.answered = max(demand.answered, now + (in_a_row - 1) * cost + route.takes)
        self._begun += calls
        self._next_at = now + calls * self._situation.apart
        self._starts.append(Start(now, demand.name, route.windows[0], route.takes, calls))
        if grain == 1 and len(self._starts) == EXACT_STARTS:
            self._grain = max(1, self._situation.deadline // GRAINS)


def simulate(situation: Situation, lanes: int, *, most: bool = False) -> Course:
    """Return the course of the run with that many lanes; `most`: of the open types, the longest queue goes first."""
    return _Simulation(situation, lanes, most=most).run()
