"""A simulation of what the conductor would do. It works on groups of lanes, slots and events, not on single events.

The cost depends on the number of moments at which lanes or slots become free, not on the number of events. Lanes go to
types by priority, but first to a type that has had less than its share. A type that cannot use a lane because its
endpoints are full leaves it to the next type, unless lanes are kept for it.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from rlm.core.expected import backoff
from rlm.plan.allocation import divide, due, kept_from
from rlm.plan.situation import Demand, Route, Situation
from rlm.plan.window import NEVER, SimulatedWindow

_NOTHING: Mapping[str, int] = Counter()


class Start(NamedTuple):
    """A group of calls of one type that begin at one endpoint at one moment, and how long each takes."""

    at: int
    type: str
    endpoint: str
    events: int
    takes: int


class Course(msgspec.Struct):
    """The result of a simulation: all starts ordered by time, and by type what is left and when the last is answered.

    `failed` counts those of the left events that used all attempts, by type; `kept` are the lanes kept for types.
    """

    starts: list[Start] = msgspec.field(default_factory=list)
    left: dict[str, int] = msgspec.field(default_factory=dict)
    answered: dict[str, int] = msgspec.field(default_factory=dict)
    failed: dict[str, int] = msgspec.field(default_factory=dict)
    kept: Mapping[str, int] = {}

    @property
    def leftover(self) -> int:
        """The events that cannot be answered by the deadline."""
        return sum(self.left.values())

    @property
    def forecast(self) -> int:
        """When the last event that fits is answered, in ticks; 0 if none fits."""
        return max(self.answered.values(), default=0)


def simulate(situation: Situation, lanes: int, kept: Mapping[str, int] = _NOTHING) -> Course:
    """Return the course of the run with that many lanes, some of them `kept` for types, which then have no share."""
    return _Simulation(situation, lanes, kept).run()


class _Simulation:
    """A type waits for a lane (`_open`, by priority), or for a slot or an event (`_shut`, by the moment it comes).

    Those in `_held` may not use the idle lanes, because these are kept for more urgent types.
    """

    def __init__(self, situation: Situation, lanes: int, kept: Mapping[str, int]) -> None:
        # Each window is copied on first use, because with few lanes most are never used.
        window = functools.cache(lambda name: situation.windows[name].copy())
        self._course = Course(kept=kept)
        self._lanes = _Lanes(situation, lanes)
        self._queues = [_Queue(demand, situation, window) for demand in situation.demands]
        self._sharing = [queue for queue in self._queues if queue.demand.share]
        self._open = list(range(len(self._queues)))
        self._shut: list[tuple[int, int]] = []
        self._held: list[int] = []
        self._kept = [(i, one, kept[one.demand.name]) for i, one in enumerate(self._queues) if one.demand.name in kept]

    def run(self) -> Course:
        at = 0
        while self._open or self._shut:
            while self._shut and self._shut[0][0] <= at:
                heapq.heappush(self._open, heapq.heappop(self._shut)[1])
            self._serve(at)
            # Without an idle lane, the next event is a lane that becomes free; otherwise all types wait for slots, and
            # those held back for either.
            waits_for = self._lanes.moments if self._lanes.idle <= 0 else self._shut
            if not waits_for:
                break
            at = waits_for[0][0]
            if self._held:
                at = min([heap[0][0] for heap in (waits_for, self._lanes.moments) if heap])
                self._open = sorted(self._open + self._held)
                self._held = []
            self._lanes.free_by(at)
        self._course.left = {queue.demand.name: queue.left for queue in self._queues}
        self._course.answered = {queue.demand.name: queue.answered for queue in self._queues if queue.answered}
        self._course.failed = {queue.demand.name: queue.failed for queue in self._queues if queue.failed}
        return self._course

    def _serve(self, at: int) -> None:
        lanes, starts = self._lanes, self._course.starts
        if self._sharing and lanes.idle > 0:
            begin_now = self._begin_now(at)  # first, because it returns failed events to the waiting ones
            total = begin_now + sum(queue.begun for queue in self._queues)
            for queue in self._sharing:
                owed = due(queue.demand.share, total, queue.begun)
                queue.serve(at, min(owed, lanes.idle), starts, lanes)
        urgent: list[tuple[int, int]] = []
        while self._open and lanes.idle > 0:
            index = self._open[0]
            queue = self._queues[index]
            while len(urgent) < len(self._kept) and self._kept[len(urgent)][0] < index:
                _, other, number = self._kept[len(urgent)]
                urgent.append((other.answered_in(at), number))
            kept = kept_from(queue.demand.takes, urgent) if urgent else 0
            queue.serve(at, lanes.idle - kept, starts, lanes)
            if lanes.idle > 0:
                heapq.heappop(self._open)
                wakes_at = queue.wakes_at(at)
                if wakes_at is not None and wakes_at <= at:
                    self._held.append(index)
                elif wakes_at is not None:
                    heapq.heappush(self._shut, (wakes_at, index))

    def _begin_now(self, at: int) -> int:
        """Return how many calls lanes and slots allow at `at`."""
        lanes, taken = self._lanes.idle, Counter[str]()
        for index in sorted(self._open):
            if lanes > 0:
                lanes -= self._queues[index].begin_now(at, lanes, taken)
        return self._lanes.idle - lanes


class _Lanes:
    """The idle lanes, and in `moments` when groups of busy lanes become free: a turnaround after the answer.

    `idle` is negative if more lanes are busy than there should be.
    """

    def __init__(self, situation: Situation, lanes: int) -> None:
        self._turnaround = situation.turnaround
        self.moments = [(busy.answered_at + situation.turnaround, 1) for busy in situation.busy]
        self.idle = lanes - len(self.moments)
        if situation.ready_lanes is not None:
            late = lanes - max(situation.ready_lanes, len(situation.busy))
            if late > 0:
                self.moments.append((situation.coming_up, late))
                self.idle -= late
        heapq.heapify(self.moments)

    def begin(self, answered_at: int, calls: int) -> None:
        """Use `calls` lanes until a turnaround after `answered_at`."""
        self.idle -= calls
        heapq.heappush(self.moments, (answered_at + self._turnaround, calls))

    def free_by(self, at: int) -> None:
        """Mark the lanes that are free by `at` as idle."""
        while self.moments and self.moments[0][0] <= at:
            self.idle += heapq.heappop(self.moments)[1]


class _Queue:
    """The events of one type: those that wait, and those that failed and are in their back-off.

    A call begins only if it can be answered by the deadline. Events that failed before go first. `answered` is when the
    last event is answered, 0 if none is. `begun` counts the events begun, including those before this plan; `failed`
    counts the events that used all attempts.
    """

    def __init__(self, demand: Demand, situation: Situation, window: Callable[[str], SimulatedWindow]) -> None:
        answers = [busy.answered_at for busy in situation.busy if busy.type == demand.name]
        self.demand = demand
        self.begun = demand.begun
        self.failed = 0
        self.answered = max((at for at in answers if at <= situation.deadline), default=0)
        self._late = sum(at > situation.deadline for at in answers)
        self._window = window
        self._attempts = situation.max_attempts
        self._backoff = situation.backoff
        #: By attempts made: the waiting events, and the fraction of a failing call carried over. For first attempts it
        #: starts at a half, which rounds to the nearest. Later ones round down; otherwise half an event would fail in
        #: all attempts.
        self._waiting = [demand.events] + [0] * (situation.max_attempts - 1)
        self._failing = [0.5] + [0.0] * (situation.max_attempts - 1)
        #: (moment, attempts, events) of the events in their back-off.
        self._coming: list[tuple[int, int, int]] = []
        #: The usable routes, these with the windows of their endpoints and budgets, and the latest beginnings of calls.
        self._routes: Sequence[Route] = demand.routes
        self._open: list[tuple[Route, SimulatedWindow, SimulatedWindow | None]] = []
        self._until = [-1]

    @property
    def left(self) -> int:
        """The number of events that are not answered."""
        return sum(self._waiting) + self._late + self.failed + sum(events for _, _, events in self._coming)

    def serve(self, at: int, most: int, starts: list[Start], lanes: _Lanes) -> None:
        """Begin the calls that slots allow at `at`, on at most `most` idle lanes."""
        numbers = self._divide(at, most)
        for (route, window, budget), number in zip(self._open, numbers, strict=False):
            if number:
                window.take(at, number)
                if budget is not None:
                    budget.take(at, number)
                starts.append(Start(at, self.demand.name, route.endpoint, number, route.takes))
                lanes.begin(at + route.takes, number)
                self._begin(at + route.takes, route, number)

    def begin_now(self, at: int, most: int, taken: Counter[str]) -> int:
        """Return how many calls `serve` would begin without the slots in `taken`, and add their slots to it."""
        numbers = self._divide(at, most, taken)
        for route, number in zip(self._routes, numbers, strict=False):
            for name in route.windows:
                taken[name] += number
        return sum(numbers)

    def wakes_at(self, at: int) -> int | None:
        """Return when the type can next use a lane, if it cannot use more at `at`; None if never."""
        if not any(self._waiting):
            at = self._coming[0][0] if self._coming else NEVER
        opens = min(
            [max(window.opens, budget.opens) if budget else window.opens for _, window, budget in self._open],
            default=NEVER,
        )
        wakes_at = max(at, opens)
        return wakes_at if wakes_at <= max(self._until, default=0) else None

    def answered_in(self, at: int) -> int:
        """Return in what time the next call can be answered; `NEVER` or more if none can."""
        self._advance(at)
        wakes_at = self.wakes_at(at)
        return (NEVER if wakes_at is None else wakes_at - at) + self.demand.takes

    def _advance(self, at: int) -> None:
        """Drop routes that are too late for a call; return events whose back-off is over to the waiting ones."""
        if self._until and at > self._until[0]:
            self._use([route for route in self._routes if route.latest >= at])
        while self._coming and self._coming[0][0] <= at:
            _, attempt, events = heapq.heappop(self._coming)
            self._waiting[attempt] += events
            self.begun -= events

    def _use(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._open = [
            (route, self._window(route.endpoint), None if route.budget is None else self._window(route.budget))
            for route in routes
        ]
        self._budgets = [route.budget for route in routes]
        self._until = sorted({route.latest for route in routes})

    def _divide(self, at: int, most: int, taken: Mapping[str, int] = _NOTHING) -> list[int]:
        """Divide at most `most` calls at `at` over the open routes in order, without the slots in `taken`.

        The result may omit routes at the end, which get none.
        """
        self._advance(at)
        wanted = min(most, sum(self._waiting))
        if wanted <= 0 or not self._open:
            return []
        _, primary, budget = self._open[0]
        if budget is None and primary.free(at) - taken[primary.name] >= wanted:  # the primary suffices
            return [wanted]
        free = [window.free(at) - taken[window.name] if window.opens <= at else 0 for _, window, _ in self._open]
        free_in = {name: self._window(name).free(at) - taken[name] for name in self._budgets if name is not None}
        return divide(wanted, free, self._budgets, free_in)

    def _begin(self, answered_at: int, route: Route, number: int) -> None:
        self.begun += number
        answered = number
        for attempt in reversed(range(self._attempts)):
            begun = min(number, self._waiting[attempt])
            if begun:
                number -= begun
                self._waiting[attempt] -= begun
                answered -= self._fail(answered_at, route, attempt, begun) if route.error_rate else 0
        if answered:
            self.answered = max(self.answered, answered_at)

    def _fail(self, at: int, route: Route, attempt: int, calls: int) -> int:
        """Return how many of the calls fail, at the expected rate over all groups; put them into their back-off."""
        owed = self._failing[attempt] + calls * route.error_rate
        failed = math.floor(owed)
        self._failing[attempt] = owed - failed
        if attempt + 1 == self._attempts:
            self.failed += failed
        elif failed:
            heapq.heappush(self._coming, (at + backoff(self._backoff, attempt + 1), attempt + 1, failed))
        return failed
