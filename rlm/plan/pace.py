"""Just-in-time release: which events to release now, to which endpoints, and what the others wait for. Pure.

The conductor looks several times a second. Each look finds, by type, what stands between a waiting event and its call;
the time since the look before is counted for that (`Waits`). These times explain what is left over in the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rlm.core.expected import call_seconds, needed_seconds
from rlm.core.window import Circuit, circuit_of
from rlm.plan.division import due, in_order_of_use, take_slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.endpoint import Endpoint, EventType
    from rlm.core.expected import Expected, Pair
    from rlm.core.trail import Counts
    from rlm.core.window import WindowState

#: About how long a message takes from its release to its claim, seconds: lanes that are free by then count.
AHEAD_SECONDS = 0.05
#: The most events released at one time, or this part of all lanes if that is more. A hundred calls sent at the same
#: instant delay each other, and the last are read too late for their slots' guard.
BURST_EVENTS = 15
BURST_SHARE = 0.15

#: Looks further apart than this were not made by a conductor at work, seconds: nobody conducted in between.
GAP_SECONDS: Final = 2.0
#: What is wrong with workers that are ready and claim nothing of a run.
ANOTHER_CONFIGURATION: Final = "another configuration"


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """What a release is decided on, at one moment.

    `counts` by type, `windows` by the name of endpoint or budget, all `lanes`, the `remaining_seconds` to the deadline,
    what calls are `expected` to be like, and by type the events `begun` in this run so far. `strangers` are the ready
    workers of another configuration, which claim nothing.
    """

    counts: Mapping[str, Counts]
    windows: Mapping[str, WindowState]
    lanes: int
    remaining_seconds: float
    expected: Mapping[Pair, Expected] = field(default_factory=dict)
    begun: Mapping[str, int] = field(default_factory=dict)
    strangers: int = 0

    def usable(self, event_type: EventType) -> tuple[Endpoint, ...]:
        """Return the endpoints that would answer a call begun now before the deadline."""
        return tuple(
            endpoint
            for endpoint in event_type.endpoints
            if needed_seconds(event_type, endpoint.name, self.expected) <= self.remaining_seconds
        )

    def wait_seconds(self, endpoint: Endpoint) -> float:
        """Return the seconds until the next slot of an endpoint and its budget; 0 if there is one now."""
        windows = [self.windows[limited.name] for limited in (endpoint, endpoint.budget) if limited is not None]
        return max(0.0 if window.free > 0 else window.wait_seconds for window in windows)


def choose_releases(state: ReleaseState, types: Sequence[EventType]) -> dict[str, list[str]]:
    """Choose the releases of this moment: for each type the endpoints, one for each event to release.

    Lanes go to `types` in their order, highest priority first; but a type that has had less than its share of the run's
    calls goes before them. A type gets no lane that its endpoints have no slot for. Events that are released or claimed
    and have no slot yet are subtracted from the free slots, because they are going to take them.
    """
    free = _free_slots(state, types)
    lanes = _open_lanes(state, types)
    chosen: dict[str, list[str]] = {}
    for event_type, most in _turns(state, types, lanes):
        had = chosen.get(event_type.name, [])
        wanted = min(most, lanes, state.counts[event_type.name].pending - len(had))
        releases = _take(free, state.usable(event_type), wanted)
        lanes -= len(releases)
        if releases:
            chosen[event_type.name] = [*had, *releases]
    return chosen


def _free_slots(state: ReleaseState, types: Sequence[EventType]) -> dict[str, int]:
    """Return the free slots by name, without those that released events are going to take."""
    free = {name: window.free for name, window in state.windows.items()}
    for event_type in types:
        count = state.counts[event_type.name]
        _take(free, event_type.endpoints, count.released + count.boarding)
    return free


def _take(free: dict[str, int], endpoints: tuple[Endpoint, ...], wanted: int) -> list[str]:
    """Take up to `wanted` slots out of `free`, in the order of use; return the endpoint of each."""
    if not endpoints or wanted <= 0:
        return []
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    return [take_slot(free, by_name[name]) for name in islice(in_order_of_use(free, endpoints), wanted)]


def _open_lanes(state: ReleaseState, types: Sequence[EventType]) -> int:
    """Return how many lanes may be used now: the idle ones, and those that become free while a message travels."""
    busy = sum(count.released + count.inflight for count in state.counts.values())
    ends_per_second = sum(
        state.counts[one.name].inflight / min(call_seconds(one, end.name, state.expected) for end in one.endpoints)
        for one in types
    )
    burst = max(BURST_EVENTS, int(BURST_SHARE * state.lanes))
    return min(state.lanes - busy + math.floor(ends_per_second * AHEAD_SECONDS), burst)


def _turns(state: ReleaseState, types: Sequence[EventType], lanes: int) -> Iterator[tuple[EventType, int]]:
    """Yield the types in the order in which they may take lanes, each with the most it may take in this turn."""
    total = sum(state.begun.values()) + max(0, lanes)
    for event_type in types:
        if event_type.share:
            yield event_type, due(event_type.share, total, state.begun.get(event_type.name, 0))
    for event_type in types:
        yield event_type, lanes


def short_of_lanes(state: ReleaseState, types: Sequence[EventType]) -> bool:
    """Return whether an event waits for nothing but a lane: a slot is free for it."""
    return any(
        state.counts[event_type.name].pending
        and any(state.wait_seconds(endpoint) <= 0 for endpoint in state.usable(event_type))
        for event_type in types
    )


def can_send(state: ReleaseState, types: Sequence[EventType]) -> bool:
    """Return whether an open event may still be sent: one is under way, or a slot comes in time."""
    for event_type in types:
        count = state.counts[event_type.name]
        if count.released or count.inflight:
            return True
        if count.open and any(
            state.wait_seconds(endpoint) + needed_seconds(event_type, endpoint.name, state.expected)
            <= state.remaining_seconds
            for endpoint in event_type.endpoints
        ):
            return True
    return False


def next_slot_seconds(state: ReleaseState, types: Sequence[EventType]) -> float | None:
    """Return the seconds until the next slot that a pending event waits for; None if none is waited for."""
    waits = [
        state.wait_seconds(endpoint)
        for event_type in types
        if state.counts[event_type.name].pending
        for endpoint in event_type.endpoints
    ]
    return min(waits, default=None)


class Obstacle(StrEnum):
    """What keeps a waiting event from being sent."""

    START = "start"  # the run has not made its first call: it drains, plans, and its workers come up
    WORKERS = "workers"  # no worker is ready, or those that are have another configuration
    LANES = "lanes"  # a slot is free, and every lane is busy
    LIMIT = "limit"  # the windows of its endpoints are full
    BUDGET = "budget"  # the window of a budget is full
    PAUSED = "paused"  # an operator paused its endpoints
    RESTING = "resting"  # its endpoints failed or asked for a rest, or are being probed
    HELD = "held"  # their windows cannot be trusted
    REDIS = "redis"  # Redis is away, or not fit to be told of calls
    CONDUCTOR = "conductor"  # nobody conducts


@dataclass(frozen=True, slots=True)
class Wait:
    """What an event waits for; `name` is the endpoint, the budget, or `ANOTHER_CONFIGURATION`; empty without one."""

    obstacle: Obstacle
    name: str = ""

    @classmethod
    def read(cls, text: str) -> Wait:
        """Read what `str` wrote."""
        obstacle, _, name = text.partition(" ")
        return cls(Obstacle(obstacle), name)

    def __str__(self) -> str:
        return f"{self.obstacle} {self.name}".rstrip()


_SHUT: Final = {
    Circuit.HELD: Obstacle.HELD,
    Circuit.PAUSED: Obstacle.PAUSED,
    Circuit.RESTING: Obstacle.RESTING,
    Circuit.PROBING: Obstacle.RESTING,
}


def waits_of(state: ReleaseState, kind: EventType, *, begun: bool) -> dict[Wait, float]:
    """Return what the waiting events of a type wait for, as parts of 1; nothing if none waits, or one is about to go.

    If all its endpoints are shut, each counts for its part. `begun`: the run has made a call.
    """
    usable = state.usable(kind)
    if not state.counts[kind.name].pending or not usable:
        return {}
    if not state.lanes and state.strangers:
        return {Wait(Obstacle.WORKERS, ANOTHER_CONFIGURATION): 1.0}
    if not state.lanes:
        return {Wait(Obstacle.WORKERS if begun else Obstacle.START): 1.0}
    if any(state.wait_seconds(endpoint) <= 0 for endpoint in usable):
        busy = sum(count.released + count.inflight for count in state.counts.values())
        return {Wait(Obstacle.LANES): 1.0} if busy >= state.lanes else {}
    found: dict[Wait, float] = {}
    for endpoint in kind.endpoints:
        wait = _at(endpoint, state.windows)
        found[wait] = found.get(wait, 0.0) + 1 / len(kind.endpoints)
    return found


def _at(endpoint: Endpoint, windows: Mapping[str, WindowState]) -> Wait:
    """Return why an endpoint admits no call now."""
    window, budget = windows[endpoint.name], endpoint.budget
    if (circuit := circuit_of(window)) in _SHUT:
        return Wait(_SHUT[circuit], endpoint.name)
    if budget is not None and (circuit := circuit_of(windows[budget.name])) in _SHUT:
        return Wait(_SHUT[circuit], budget.name)
    if (
        budget is not None
        and windows[budget.name].wait_seconds >= window.wait_seconds
        and windows[budget.name].free <= 0
    ):
        return Wait(Obstacle.BUDGET, budget.name)
    return Wait(Obstacle.LIMIT)


@dataclass(slots=True)
class Waits:
    """How long the events of each type waited for what, seconds, up to the moment `until`, seconds since 1970."""

    until: float
    by_type: dict[str, dict[Wait, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, document: Mapping[str, Any] | None, began_at: float) -> Waits:
        """Read what `as_json` wrote; without a document nothing was waited for since `began_at`."""
        if not document:
            return cls(began_at)
        by_type = {
            name: {Wait.read(one): seconds for one, seconds in waits.items()}
            for name, waits in document["by_type"].items()
        }
        return cls(document["until"], by_type)

    def as_json(self) -> dict[str, Any]:
        """Return what the run's hash keeps, ready to be encoded."""
        return {
            "until": self.until,
            "by_type": {
                name: {str(one): round(seconds, 3) for one, seconds in waits.items()}
                for name, waits in self.by_type.items()
            },
        }

    def give_up(self, state: ReleaseState, types: Sequence[EventType], *, begun: bool) -> None:
        """Count the rest of the window for what is waited for now: none of it can come before the deadline."""
        for kind in types:
            self._put(kind, waits_of(state, kind, begun=begun), max(0.0, state.remaining_seconds))

    def look(self, now: float, state: ReleaseState, types: Sequence[EventType], *, begun: bool, away: bool) -> None:
        """Count the time since the last look for what each type waits for at this one.

        `away`: Redis was away in between, or is not fit.
        """
        seconds, self.until = max(0.0, now - self.until), max(now, self.until)
        for kind in types:
            if not state.counts[kind.name].pending:
                continue
            if away:
                found = {Wait(Obstacle.REDIS): 1.0}
            elif seconds > GAP_SECONDS:
                found = {Wait(Obstacle.CONDUCTOR if begun else Obstacle.START): 1.0}
            else:
                found = waits_of(state, kind, begun=begun)
            self._put(kind, found, seconds)

    def _put(self, kind: EventType, found: Mapping[Wait, float], seconds: float) -> None:
        waits = self.by_type.setdefault(kind.name, {})
        for wait, part in found.items():
            waits[wait] = waits.get(wait, 0.0) + part * seconds
