"""Just-in-time release: which events to release now, and to which endpoints. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from rlm.core.endpoint import Endpoint, EventType
from rlm.core.expected import Expected, Pair, call_seconds, needed_seconds
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.plan.allocation import due, in_order_of_use

if TYPE_CHECKING:
    from rlm.plan.waits import Wait

#: About how long a lane takes from the release of a call to its claim, seconds: lanes that are free by then count.
AHEAD_SECONDS = 0.05
#: For so many times the lag of these decisions lanes are to have calls as well: it varies. But never more than so many
#: calls for each lane: what is not made within a second is void.
LAGS = 3
MOST_AHEAD = 30
#: The most idle lanes woken at one time, or this part of all lanes if that is more. A hundred calls sent at the same
#: instant delay each other, and the last are read too late for their slots' guard.
BURST_LANES = 15
BURST_SHARE = 0.15


class ReleaseState(msgspec.Struct, frozen=True):
    """What a release is decided on, at one moment.

    `counts` by type, `windows` by the name of endpoint or budget, all `lanes`, the `remaining_seconds` to the deadline,
    what calls are `expected` to be like, and by type the events `begun` in this run so far. `lack` is what
    is known to be wrong with the workers, None for nothing. A lane needs `turnaround_seconds` between two calls. Such
    moments come up to `lag_seconds` late, on a busy host. `untaken` estimates by type the events of items that the run
    still takes in before its deadline, `beyond` how many items it does not.
    """

    counts: Mapping[str, Counts]
    windows: Mapping[str, WindowState]
    lanes: int
    remaining_seconds: float
    expected: Mapping[Pair, Expected] = msgspec.field(default_factory=dict)
    begun: Mapping[str, int] = msgspec.field(default_factory=dict)
    lack: Wait | None = None
    turnaround_seconds: float = 0.0
    lag_seconds: float = 0.0
    untaken: Mapping[str, int] = msgspec.field(default_factory=dict)
    beyond: int = 0

    def usable(self, event_type: EventType) -> tuple[Endpoint, ...]:
        """Return the endpoints that would answer a call begun now before the deadline."""
        return tuple(
            endpoint
            for endpoint in event_type.endpoints
            if needed_seconds(event_type, endpoint.name, self.expected) <= self.remaining_seconds
        )

    @property
    def ahead_seconds(self) -> float:
        """For how long lanes are given calls."""
        return AHEAD_SECONDS + LAGS * self.lag_seconds

    def turn_seconds(self, event_type: EventType) -> float:
        """Return the seconds until a lane that begins a call of a type is free again, at its fastest endpoint."""
        calls = (call_seconds(event_type, end.name, self.expected) for end in event_type.endpoints)
        return self.turnaround_seconds + min(calls)

    def wait_seconds(self, endpoint: Endpoint) -> float:
        """Return the seconds until the next slot of an endpoint and its budget; 0 if there is one now."""
        windows = [self.windows[limited.name] for limited in (endpoint, endpoint.budget) if limited is not None]
        return max(0.0 if window.free > 0 else window.wait_seconds for window in windows)


def choose_releases(state: ReleaseState, types: Sequence[EventType]) -> dict[str, list[str]]:
    """Choose the calls to release at this moment: for each type the endpoints, one for each call.

    Lanes go to `types` in their order, highest priority first; but a type that has had less than its share of the run's
    calls goes before them. A type gets no lane that its endpoints have no slot for. Calls that are released,
    and events that are claimed and have no slot yet, are subtracted from the free slots: they are going to take them.
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
    return list(islice(in_order_of_use(free, endpoints), wanted)) if endpoints and wanted > 0 else []


def _open_lanes(state: ReleaseState, types: Sequence[EventType]) -> int:
    """Return how many more calls may be released: for idle lanes, and for those that are free in a moment.

    An idle lane that begins now may be free again by then: it counts as one with the longest calls that wait.
    """
    counts = state.counts
    busy = sum(count.released + count.inflight for count in counts.values())
    woken = min(state.lanes - busy, burst_of(state.lanes))
    turns = {one.name: state.turn_seconds(one) for one in types}
    longest = max((turn for name, turn in turns.items() if counts[name].pending), default=math.inf)
    ends_per_second = sum(counts[name].inflight / turn for name, turn in turns.items()) + max(0, woken) / longest
    soon = min(ends_per_second * state.ahead_seconds, MOST_AHEAD * state.lanes)
    return woken + math.floor(soon)


def _turns(state: ReleaseState, types: Sequence[EventType], lanes: int) -> Iterator[tuple[EventType, int]]:
    """Yield the types in the order in which they may take lanes, each with the most it may take in this turn."""
    total = sum(state.begun.values()) + max(0, lanes)
    for event_type in types:
        if event_type.share:
            yield event_type, due(event_type.share, total, state.begun.get(event_type.name, 0))
    for event_type in types:
        yield event_type, lanes


def burst_of(lanes: int) -> int:
    """Return how many idle lanes may be woken at one time, of all `lanes`."""
    return max(BURST_LANES, int(BURST_SHARE * lanes))


def short_of_lanes(state: ReleaseState, types: Sequence[EventType]) -> bool:
    """Return whether an event waits for nothing but a lane: a slot is free for it."""
    return any(
        state.counts[event_type.name].pending
        and any(state.wait_seconds(endpoint) <= 0 for endpoint in state.usable(event_type))
        for event_type in types
    )


def next_look_seconds(state: ReleaseState, types: Sequence[EventType], most: float) -> float:
    """Return the seconds until the next release can be due, at `most` so many.

    It is now while more lanes are to be woken than one burst. While every lane has a call, and calls are released for
    when it is free, it is not before half of them were made.
    """
    released = sum(count.released for count in state.counts.values())
    idle = state.lanes - sum(count.inflight for count in state.counts.values())
    if min(released, idle) > burst_of(state.lanes):
        return 0.0
    wait = next_slot_seconds(state, types)
    if wait == 0 and released > idle:
        wait = state.ahead_seconds / 2
    return most if wait is None else min(wait, most)


def can_send(state: ReleaseState, types: Sequence[EventType]) -> bool:
    """Return whether an open event may still be sent: a slot comes in time, or one under way may fail in time."""
    for event_type in types:
        count = state.counts[event_type.name]
        is_under_way = bool(count.released or count.inflight)
        if (is_under_way or count.open) and any(
            (0.0 if is_under_way else state.wait_seconds(endpoint))
            + needed_seconds(event_type, endpoint.name, state.expected)
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
