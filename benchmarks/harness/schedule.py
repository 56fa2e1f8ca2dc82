"""The event-by-event schedule of a contender with perfect knowledge and no overhead, and the bound for all.

Greedy list scheduling, separate from RLM's planner and simpler: at every moment each free lane takes the next event in
order whose type has an endpoint with a free slot. Time is in whole microseconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rlm.core.endpoint import Endpoint, EventType

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the last event is answered, in seconds after the first call, and which order was best."""

    seconds: float
    order: str


def best_schedule(backlog: Mapping[str, int], types: Sequence[EventType], lanes: int, guard_seconds: float) -> Schedule:
    """Return the earliest end of two orders: by priority, and longest calls first."""
    orders = {"priority": list(types), "longest first": sorted(types, key=lambda one: -one.processing_seconds)}
    ends = {name: _end(_calls(backlog, order, lanes, guard_seconds)) for name, order in orders.items()}
    name = min(ends, key=ends.__getitem__)
    return Schedule(ends[name] / _MICROSECONDS, name)


def lower_bound(backlog: Mapping[str, int], types: Sequence[EventType], lanes: int) -> float:
    """Return the end that no schedule beats, in seconds after the first call: the server's limits only, no guard.

    With a lane for every event, no type's k-th call can begin earlier; and all calls that cannot begin before some
    moment must be made after it, on the available lanes.
    """
    alone = [call for one in types for call in _calls(backlog, [one], max(1, backlog[one.name]), 0.0)]
    ends, work = [_end(alone)], 0
    for at, takes in sorted(alone, reverse=True):
        work += takes
        ends.append(at + work // lanes)
    return max(ends) / _MICROSECONDS


class _Slots:
    """The slots of one endpoint, each taken for a period plus the guard, under every rule."""

    def __init__(self, endpoint: Endpoint, guard_seconds: float) -> None:
        self._rules = [
            (one.amount, round((one.seconds + guard_seconds) * _MICROSECONDS)) for one in endpoint.limit.rules
        ]
        self._taken: deque[int] = deque(maxlen=max(amount for amount, _ in self._rules))

    def opens_at(self) -> int:
        full = [(amount, span) for amount, span in self._rules if len(self._taken) >= amount]
        return max((self._taken[-amount] + span for amount, span in full), default=0)

    def take(self, at: int) -> None:
        self._taken.append(at)


def _calls(
    backlog: Mapping[str, int], order: Sequence[EventType], lanes: int, guard_seconds: float
) -> Iterator[tuple[int, int]]:
    """Yield the start and the duration of each call."""
    left = {one.name: backlog[one.name] for one in order}
    slots = {one.name: [_Slots(endpoint, guard_seconds) for endpoint in one.endpoints] for one in order}
    busy: list[int] = []  # when each busy lane is free again
    at = 0
    while waiting := [one for one in order if left[one.name]]:
        while busy and busy[0] <= at:
            heapq.heappop(busy)
        for one in waiting:
            takes = round(one.processing_seconds * _MICROSECONDS)
            while left[one.name] and len(busy) < lanes:
                soonest = min(slots[one.name], key=_Slots.opens_at)
                if soonest.opens_at() > at:
                    break
                soonest.take(at)
                left[one.name] -= 1
                heapq.heappush(busy, at + takes)
                yield at, takes
        still = [one for one in waiting if left[one.name]]
        opens = (slot.opens_at() for one in still for slot in slots[one.name])
        at = busy[0] if len(busy) == lanes else min(opens, default=at)


def _end(calls: Iterable[tuple[int, int]]) -> int:
    return max((at + takes for at, takes in calls), default=0)
