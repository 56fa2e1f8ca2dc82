"""A simulation of the rule by which lanes pull their calls, the same as that of the script `turn`.

A lane that is idle begins a call of the first type by rank that has an event waiting and a slot, at the first of the
type's endpoints that has one, if the call can be answered before the deadline. A type that has had less than its share
of the calls goes first. If nothing can begin, the lane waits for the next slot or event.

A long simulation becomes coarser: what happens within a grain of time is treated as one group.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Mapping
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from rlm.plan.situation import Demand, Route, Situation
from rlm.plan.window import SimulatedWindow

#: A simulation is exact up to so many calls.
EXACT_STARTS: Final = 5000
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
    """The result of a simulation: all starts ordered by time, and by type what is left and when the last is answered.

    `most`: the longest queue went first.
    """

    starts: list[Start]
    left: dict[str, int]
    answered: dict[str, int]
    most: bool

    @property
    def leftover(self) -> int:
        """The events that cannot be answered by the deadline."""
        return sum(self.left.values())

    @property
    def fits(self) -> bool:
        """Whether no event is left over."""
        return self.leftover == 0

    @property
    def forecast(self) -> int:
        """When the last event that fits is answered, in ticks; 0 if none fits."""
        return max(self.answered.values(), default=0)


def simulate(situation: Situation, lanes: int, *, most: bool = False) -> Course:
    """Return the course of the run with that many lanes; `most`: of the open types, the longest queue goes first."""
    return _Simulation(situation, lanes, most=most).run()


class _Simulation:
    """A type is open (`_open`, by rank), or it waits for a slot (`_shut`, by the moment it may come)."""

    def __init__(self, situation: Situation, lanes: int, *, most: bool) -> None:
        windows = {name: [window.copy() for window in each] for name, each in situation.windows.items()}
        self._situation = situation
        self._lanes = _Lanes(situation, lanes)
        self._queues = [_Queue(demand, situation, windows) for demand in situation.demands]
        self._sharing = [rank for rank, demand in enumerate(situation.demands) if demand.share]
        self._begun = sum(queue.begun for queue in self._queues)
        self._most = most
        self._open = [rank for rank, queue in enumerate(self._queues) if queue.ready]
        self._shut: list[tuple[int, int]] = []
        self._starts: list[Start] = []
        self._grain = 1
        self._next_at = 0  #: when the next call can begin

    def run(self) -> Course:
        now, lanes = 0, self._lanes
        while self._open or self._shut:
            now = max(now, self._next_at)
            if lanes.idle <= 0:
                if not lanes.any_busy:
                    break
                now = max(now, lanes.next_free)
            lanes.free_by(now)
            while self._shut and self._shut[0][0] <= now:
                insort(self._open, heapq.heappop(self._shut)[1])
            if lanes.idle > 0:
                if chosen := self._choose(now):
                    self._begin(now, *chosen)
                elif self._shut:
                    now = self._shut[0][0]
        queues = {queue.name: queue for queue in self._queues}
        return Course(
            self._starts,
            left={name: queue.left for name, queue in queues.items()},
            answered={name: queue.answered for name, queue in queues.items() if queue.answered},
            most=self._most,
        )

    def _choose(self, now: int) -> tuple[_Queue, _Place] | None:
        """Return the type that gets the next call and the endpoint, None if no call can begin now."""
        for rank in self._sharing:
            queue = self._queues[rank]
            is_owed = queue.share * (self._begun + 1) > queue.begun
            if is_owed and rank in self._open and (place := self._place(rank, now)):
                return queue, place
        while self._open:
            rank = self._open[0]
            if self._most:
                rank = max(self._open[:MOST_LOOKED_AT], key=lambda rank: self._queues[rank].ready)
            if place := self._place(rank, now):
                return self._queues[rank], place
        return None

    def _place(self, rank: int, now: int) -> _Place | None:
        """Return the endpoint at which a call of an open type can begin; without one, the type is open no longer."""
        queue = self._queues[rank]
        if place := queue.place(now):
            return place
        del self._open[bisect_left(self._open, rank)]
        if (at := queue.waits_until(now)) is not None:
            heapq.heappush(self._shut, (at, rank))
        return None

    def _begin(self, now: int, queue: _Queue, place: _Place) -> None:
        """Begin a call; in a coarse simulation also those that would follow within a grain anyway."""
        lanes, grain, route = self._lanes, self._grain, place.route
        cost, calls, in_a_row = route.takes + self._situation.turnaround, 1, 1
        free = min([window.free_at(now) for window in place.windows])
        if grain > 1:
            in_a_row = min(max(1, grain // cost), (route.latest - now) // cost + 1)
            calls = min(lanes.idle * in_a_row, queue.ready, free)
            calls = -(-calls // 2) if self._most or self._sharing else calls  # then types take turns
            in_a_row = -(-calls // lanes.idle)
        for window in place.windows:
            window.take(now + (in_a_row - 1) * cost // 2, calls, grain)
        lanes.begin(now + in_a_row * cost, -(-calls // in_a_row), grain)
        queue.begin(now + (in_a_row - 1) * cost + route.takes, calls)
        self._begun += calls
        self._next_at = now + calls * self._situation.apart
        self._starts.append(Start(now, queue.name, route.windows[0], route.takes, calls))
        if grain == 1 and len(self._starts) == EXACT_STARTS:
            self._grain = max(1, self._situation.deadline // GRAINS)


class _Lanes:
    """The idle lanes, and when the busy ones become free: a turnaround after the answer.

    `idle` is negative if more lanes are busy than there should be. Lanes that become free within one grain form a
    group, which is free at their mean moment.
    """

    def __init__(self, situation: Situation, lanes: int) -> None:
        self.idle = lanes
        self._heap: list[int] = []
        #: By the moment at which the grain of a group begins: the sum of the moments of its lanes, and their number.
        self._groups: dict[int, tuple[int, int]] = {}
        for busy in situation.busy:
            self.begin(busy.ends_at + situation.turnaround, 1, 1)

    @property
    def any_busy(self) -> bool:
        return bool(self._heap)

    @property
    def next_free(self) -> int:
        """When the next group becomes free."""
        moments, lanes = self._groups[self._heap[0]]
        return moments // lanes

    def begin(self, until: int, lanes: int, grain: int) -> None:
        """Use `lanes` until then."""
        self.idle -= lanes
        key = until - until % grain
        if key not in self._groups:
            heapq.heappush(self._heap, key)
        moments, others = self._groups.get(key, (0, 0))
        self._groups[key] = moments + until * lanes, others + lanes

    def free_by(self, at: int) -> None:
        """Mark the lanes that are free by `at` as idle."""
        while self._heap and self.next_free <= at:
            self.idle += self._groups.pop(heapq.heappop(self._heap))[1]


class _Place(NamedTuple):
    """An endpoint for the calls of a type, with the windows of its rules and of those of its budget."""

    route: Route
    windows: list[SimulatedWindow]

    @property
    def opens(self) -> int:
        return max([window.opens for window in self.windows])


class _Queue:
    """The events of one type that wait. `begun` counts the calls begun, including those before this plan.

    `answered` is when the last event is answered, 0 if none is.
    """

    def __init__(self, demand: Demand, situation: Situation, windows: Mapping[str, list[SimulatedWindow]]) -> None:
        self.name, self.share = demand.name, demand.share
        self.ready = demand.events
        self.begun = demand.begun
        answers = [busy.ends_at for busy in situation.busy if busy.is_answered and busy.type == demand.name]
        self.answered = max((at for at in answers if at <= situation.deadline), default=0)
        self._late = sum(at > situation.deadline for at in answers)
        self._places = [_Place(route, [*chain(*(windows[name] for name in route.windows))]) for route in demand.routes]

    @property
    def left(self) -> int:
        """The number of events that are not answered."""
        return self.ready + self._late

    def place(self, now: int) -> _Place | None:
        """Return the first endpoint at which a call can begin now and be answered in time; None if there is none."""
        if self.ready:
            for place in self._places:
                if place.opens <= now <= place.route.latest:
                    return place
        return None

    def waits_until(self, now: int) -> int | None:
        """Return the earliest moment at which a call may begin, if none can begin now; None if there is none."""
        moments = [at for place in self._places if (at := max(now, place.opens)) <= place.route.latest]
        return min(moments, default=None) if self.ready else None

    def begin(self, answered_at: int, calls: int) -> None:
        """Begin calls that are answered then."""
        self.begun += calls
        self.ready -= calls
        self.answered = max(self.answered, answered_at)
