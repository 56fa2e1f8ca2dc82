"""The event-by-event schedule of a contender with perfect knowledge and no overhead, and the bound for all.

Greedy list scheduling, separate from RLM's planner and simpler: at every moment each free lane takes the next event in
order whose type has an endpoint with a free slot. Time is in whole microseconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.harness.work import EventType, Work

_MICROSECONDS = 1_000_000


def best_schedule(work: Work) -> float:
    """Return the earlier end of two orders, by priority and longest calls first, in seconds after the first call."""
    longest_first = sorted(work.types, key=lambda kind: -kind.seconds)
    period = work.period + work.guard
    ends = (_end(_calls(order, work.amount, period, work.lanes)) for order in (work.types, longest_first))
    return min(ends) / _MICROSECONDS


def lower_bound(work: Work) -> float:
    """Return the end that no schedule beats, in seconds after the first call: the server's limits only, no guard.

    With a lane for every event, no type's k-th call can begin earlier; and all calls that cannot begin before some
    moment must be made after it, on the available lanes.
    """
    alone = [
        call for kind in work.types for call in _calls([kind], work.amount, work.period, lanes=max(1, kind.events))
    ]
    ends, waiting = [_end(alone)], 0
    for at, takes in sorted(alone, reverse=True):
        waiting += takes
        ends.append(at + waiting // work.lanes)
    return max(ends) / _MICROSECONDS


def _calls(order: Sequence[EventType], amount: int, period: float, lanes: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the duration of each call."""
    left = {kind.name: kind.events for kind in order}
    #: When each of the last `amount` slots of each endpoint opens again.
    slots = {kind.name: [deque([0] * amount, amount) for _ in kind.endpoints] for kind in order}
    busy: list[int] = []  # when each busy lane is free again
    at = 0
    while waiting := [kind for kind in order if left[kind.name]]:
        while busy and busy[0] <= at:
            heapq.heappop(busy)
        for kind in waiting:
            takes = round(kind.seconds * _MICROSECONDS)
            while left[kind.name] and len(busy) < lanes:
                soonest = min(slots[kind.name], key=lambda opens: opens[0])
                if soonest[0] > at:
                    break
                soonest.append(at + round(period * _MICROSECONDS))
                left[kind.name] -= 1
                heapq.heappush(busy, at + takes)
                yield at, takes
        opens = (slot[0] for kind in waiting if left[kind.name] for slot in slots[kind.name])
        at = busy[0] if len(busy) == lanes else min(opens, default=at)


def _end(calls: Iterable[tuple[int, int]]) -> int:
    return max((at + takes for at, takes in calls), default=0)
