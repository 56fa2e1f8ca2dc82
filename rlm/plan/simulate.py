"""The run as the conductor would conduct it, on counts: groups of lanes and of slots move together, never one event.

The cost follows the number of moments at which lanes or slots come free, not the number of events. Lanes go to types by
priority, but first to a type that has had less than its share; a type that cannot use one, its endpoints being full,
leaves it to the next.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from rlm.plan.course import Course
from rlm.plan.gate import Gate
from rlm.plan.lanes import Lanes
from rlm.plan.queue import Queue

if TYPE_CHECKING:
    from rlm.plan.situation import Situation


def simulate(situation: Situation, lanes: int) -> Course:
    """Run `situation` through on that many lanes."""
    return _Simulation(situation, lanes).run()


class _Simulation:
    """Types wait either for a lane (`_open`, by priority) or for a slot or an event (`_shut`, by the moment)."""

    def __init__(self, situation: Situation, lanes: int) -> None:
        gates = _Gates(situation)
        self._course = Course()
        self._lanes = Lanes(situation, lanes)
        self._queues = [Queue(demand, situation, gates) for demand in situation.demands]
        self._sharing = [queue for queue in self._queues if queue.demand.share]
        self._open = list(range(len(self._queues)))
        self._shut: list[tuple[int, int]] = []

    def run(self) -> Course:
        at = 0
        while self._open or self._shut:
            while self._shut and self._shut[0][0] <= at:
                heapq.heappush(self._open, heapq.heappop(self._shut)[1])
            self._serve(at)
            # With no lane idle the next that falls free matters; else all that still wait do so for a slot.
            waits_for = self._lanes.moments if self._lanes.idle <= 0 else self._shut
            if not waits_for:
                break
            at = waits_for[0][0]
            self._lanes.free_by(at)
        self._course.left = {queue.demand.name: queue.left for queue in self._queues}
        self._course.answered = {queue.demand.name: queue.answered for queue in self._queues if queue.answered}
        self._course.failed = sum(queue.failed for queue in self._queues)
        return self._course

    def _serve(self, at: int) -> None:
        """Let the types that wait for lanes take those that are idle."""
        lanes, starts = self._lanes, self._course.starts
        if self._sharing and lanes.idle > 0:
            total = sum(queue.begun for queue in self._queues) + lanes.idle
            for queue in self._sharing:
                owed = math.floor(queue.demand.share * total) - queue.begun
                queue.serve(at, min(owed, lanes.idle), starts, lanes)
        while self._open and lanes.idle > 0:
            queue = self._queues[self._open[0]]
            queue.serve(at, lanes.idle, starts, lanes)
            if lanes.idle > 0:
                index = heapq.heappop(self._open)
                wakes_at = queue.wakes_at(at)
                if wakes_at is not None:
                    heapq.heappush(self._shut, (wakes_at, index))


class _Gates(dict[str, Gate]):
    """The gates of one simulation, each copied when it is first asked for: with few lanes most never are."""

    def __init__(self, situation: Situation) -> None:
        super().__init__()
        self._as_they_stand = situation.gates

    def __missing__(self, name: str) -> Gate:
        gate = self[name] = self._as_they_stand[name].copy()
        return gate
