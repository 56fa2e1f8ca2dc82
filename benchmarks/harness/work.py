"""A piece of work for all contenders: endpoints with their limits, and the events to send to them.

Also the event-by-event schedule of a contender with perfect knowledge and no overhead, and the bound for all: greedy
list scheduling, separate from RLM's planner and simpler. At every moment each free lane takes the next event in order
whose type has an endpoint with a free slot. Time is in whole microseconds.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

#: The built-in types by priority: the seconds of a call, and the primary endpoint.
BUILT_IN = {
    "REBALANCE_NEEDED": (2.0, "rebalance_api"),
    "OPEN_POSITION_DETECTED": (1.5, "open_position_api"),
    "OPEN_ORDER_DETECTED": (1.0, "open_order_api"),
    "NEW_BALANCE_UPDATE": (0.8, "balance_update_api"),
    "BALANCE_CHECK_REQUIRED": (1.2, "balance_check_api"),
}
#: The events of each built-in type, from high to low priority. `full` is all that the limits let through in a window.
LOADS = {
    "half": (180,) * 5,
    "full": (360,) * 5,
    "one-type": (360, 0, 0, 0, 0),
    "skewed": (300, 40, 10, 130, 5),
}
#: Threads of a worker process.
THREADS = 5
_GUARD_SECONDS = 0.5
_MICROSECONDS = 1_000_000


class EventType(NamedTuple):
    """A type of events: how long a call takes, its endpoints, and how many events there are."""

    name: str
    seconds: float
    endpoints: tuple[str, ...]
    events: int


class Work(NamedTuple):
    """Types from high to low priority; each endpoint takes at most `amount` calls in any `period`, all in seconds."""

    types: tuple[EventType, ...]
    amount: int
    period: float
    guard: float
    window: float
    lanes: int
    timeout: float

    @property
    def count(self) -> int:
        return sum(kind.events for kind in self.types)

    def events(self) -> list[tuple[str, str]]:
        """Return each event as its item's id and its type, in the order of arrival: shuffled, always alike."""
        names = [kind.name for kind in self.types for _ in range(kind.events)]
        random.Random(1).shuffle(names)
        return [(f"e{number}", name) for number, name in enumerate(names)]

    def takes(self) -> dict[str, float]:
        """Return the seconds of a call by endpoint."""
        return {endpoint: kind.seconds for kind in self.types for endpoint in kind.endpoints}

    def configuration(self, api_url: str, redis_url: str) -> str:
        """Return the configuration file for RLM, with all lanes warm."""
        workers = self.lanes // THREADS
        sections = [
            f"[redis]\nurl = {json.dumps(redis_url or 'embedded')}",
            f"[run]\nwindow_seconds = {self.window}\nevery_seconds = 86400\nguard_seconds = {self.guard}",
            f"[workers]\nmin = {workers}\nmax = {workers}\nthreads = {THREADS}",
            f"[retry]\ntimeout_seconds = {self.timeout}",
        ]
        for place, kind in enumerate(self.types):
            endpoints = ", ".join(f'{{name = "{name}", url = "{api_url}/{name}"}}' for name in kind.endpoints)
            sections.append(
                f"[types.{kind.name}]\npriority = {100 - place % 100}\nprocessing_seconds = {kind.seconds or 0.005}\n"
                f'rate_limit = "{self.amount} per {self.period:g} seconds"\nendpoints = [{endpoints}]'
            )
        return "\n".join([*sections, ""])


def main_job(load: str, speed: float) -> Work:
    """Return the main job: 20 endpoints, 100 lanes, a window of three minutes, all times divided by `speed`."""
    types = tuple(
        EventType(name, seconds / speed, (primary, *(f"overflow_{primary}_{place}" for place in (1, 2, 3))), events)
        for (name, (seconds, primary)), events in zip(BUILT_IN.items(), LOADS[load], strict=True)
    )
    return Work(types, 30, 60 / speed, _GUARD_SECONDS / speed, 180 / speed, lanes=100, timeout=max(1.0, 10 / speed))


def unlimited(events: int, *, types: int = 5, endpoints: int = 4, workers: int = 4) -> Work:
    """Return work whose limits do not bind and whose calls are answered at once."""
    kinds = (
        EventType(f"T{number}", 0.0, tuple(f"t{number}_{place}" for place in range(endpoints)), events // types)
        for number in range(types)
    )
    return Work(tuple(kinds), 100_000, 60.0, _GUARD_SECONDS, 150.0, lanes=workers * THREADS, timeout=10.0)


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
