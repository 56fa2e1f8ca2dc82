"""The run as the conductor would conduct it, on counts: groups of lanes and of slots move together, never one event.

The cost follows the number of moments at which lanes or slots come free, not the number of events. Lanes go to types by
priority; a type that cannot use one, its endpoints being full, leaves it to the next. A call is begun only if it can be
answered by the deadline. Within a type, slots go in the order of `rlm.endpoint.in_order_of_use`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from rlm.plan.gate import Gate, duration, share, ticks
from rlm.plan.values import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.endpoint import EventType
    from rlm.plan.values import Horizon

_FRESH = Window()


@dataclass(frozen=True, slots=True)
class Demand:
    """How many events of a type there are, how long each takes, and by which gates they may go, the primary first."""

    name: str
    events: int
    takes: int
    gates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a simulation starts from but the number of lanes. Times in ticks; demands by priority, high to low."""

    demands: tuple[Demand, ...]
    gates: Mapping[str, Gate]
    deadline: int
    turnaround: int = 0

    @classmethod
    def of(
        cls,
        backlog: Mapping[str, int],
        types: Sequence[EventType],
        windows: Mapping[str, Window],
        horizon: Horizon,
        turnaround_seconds: float = 0.0,
    ) -> Situation:
        """Bring a plan's input into ticks."""
        demands = tuple(
            Demand(
                kind.name,
                backlog.get(kind.name, 0),
                duration(kind.processing_seconds),
                tuple(endpoint.name for endpoint in kind.endpoints),
            )
            for kind in types
        )
        gates = {
            endpoint.name: Gate.of(endpoint, windows.get(endpoint.name, _FRESH), horizon.guard_seconds)
            for kind in types
            for endpoint in kind.endpoints
        }
        return cls(demands, gates, ticks(horizon.deadline_seconds), ticks(turnaround_seconds))

    def only(self, demand: Demand) -> Situation:
        """Return the situation as it would be if there were nothing but this demand."""
        gates = {name: self.gates[name] for name in demand.gates}
        return Situation((demand,), gates, self.deadline, self.turnaround)

    def done(self, course: Course) -> dict[str, int]:
        """Count by type the events that a course gets answered."""
        return {demand.name: demand.events - course.left[demand.name] for demand in self.demands}


class Start(NamedTuple):
    """A group of calls of one type begun at one endpoint at one moment."""

    at: int
    type: str
    gate: str
    events: int


@dataclass(slots=True)
class Course:
    """What a simulation came to: all starts in order of time; by type what is left and when the last is answered."""

    starts: list[Start] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)

    @property
    def leftover(self) -> int:
        """Events that cannot be answered by the deadline."""
        return sum(self.left.values())

    @property
    def forecast(self) -> int:
        """When the last event that fits is answered, 0 if none does. Ticks."""
        return max(self.answered.values(), default=0)


def simulate(situation: Situation, lanes: int) -> Course:
    """Run `situation` through on that many lanes."""
    gates = {name: gate.copy() for name, gate in situation.gates.items()}
    queues = [_Queue(demand, [gates[name] for name in demand.gates]) for demand in situation.demands]
    course = Course()
    calls = _Calls(situation.turnaround)
    waiting, at, idle = queues if lanes else [], 0, lanes
    while waiting := [queue for queue in waiting if queue.left and at + queue.takes <= situation.deadline]:
        for queue in waiting:
            if idle and queue.opens_at <= at:
                idle -= queue.serve(at, idle, course.starts, calls)
        # With no lane idle the next that falls free matters; else all that still wait do so for a slot.
        at = min(queue.opens_at for queue in waiting) if idle else calls.next_free()
        idle += calls.free_by(at)
    course.left = {queue.demand.name: queue.left for queue in queues}
    course.answered = {queue.demand.name: queue.answered for queue in queues if queue.answered}
    return course


class _Calls:
    """The calls under way: groups of lanes by the moment they are free again, a turnaround after the answer."""

    __slots__ = ("_heap", "_turnaround")

    def __init__(self, turnaround: int) -> None:
        self._heap: list[tuple[int, int]] = []
        self._turnaround = turnaround

    def begin(self, answered_at: int, calls: int) -> None:
        heapq.heappush(self._heap, (answered_at + self._turnaround, calls))

    def next_free(self) -> int:
        return self._heap[0][0]

    def free_by(self, at: int) -> int:
        heap, lanes = self._heap, 0
        while heap and heap[0][0] <= at:
            lanes += heapq.heappop(heap)[1]
        return lanes


class _Queue:
    """What waits of one type. `opens_at` is when a slot can be there for it, never later than it is."""

    __slots__ = ("answered", "demand", "gates", "left", "opens_at", "takes")

    def __init__(self, demand: Demand, gates: list[Gate]) -> None:
        self.demand = demand
        self.gates = gates
        self.left = demand.events
        self.takes = demand.takes
        self.opens_at = 0
        self.answered = 0

    def serve(self, at: int, idle: int, starts: list[Start], calls: _Calls) -> int:
        """Begin what slots and idle lanes allow at `at`; return how many lanes that took."""
        free = [gate.free(at) for gate in self.gates]
        slots = sum(free)
        begun = min(slots, idle, self.left)
        if begun:
            for gate, number in zip(self.gates, share(begun, free), strict=True):
                if number:
                    gate.take(at, number)
                    starts.append(Start(at, self.demand.name, gate.name, number))
            self.left -= begun
            self.answered = at + self.takes
            calls.begin(self.answered, begun)
        self.opens_at = min([gate.opens for gate in self.gates])
        return begun
