"""Just-in-time release: which events to release now, and to which endpoints. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from rlm.core.endpoint import Endpoint, EventType
from rlm.core.expected import Expected, Pair, call_seconds, needed_seconds
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.plan.allocation import due, in_order_of_use, kept_from

if TYPE_CHECKING:
    from rlm.plan.waits import Wait

#: Seconds from the release of a call to its claim, roughly; lanes that are free by then count.
AHEAD_SECONDS = 0.05
#: Lanes get calls for this many times the lag of these decisions in addition, because the lag varies. The maximum is
#: `MOST_AHEAD` calls per lane, because a call that is not made within a second is void.
LAGS = 3
MOST_AHEAD = 30
#: The most idle lanes woken at once, or this share of all lanes if more. A hundred simultaneous calls delay each other,
#: and the API reads the last ones too late for the guard of their slots.
BURST_LANES = 15
BURST_SHARE = 0.15


class ReleaseState(msgspec.Struct, frozen=True):
    """The facts for a release at one moment.

    `counts` are by type, `windows` by the name of endpoint or budget. `lanes` counts all lanes, `remaining_seconds` is
    the time to the deadline, `expected` what to expect of calls, `begun` the events begun in this run by type. `lack`
    is a known problem with the workers, None if there is none. A lane needs `turnaround_seconds` between two calls.
    On a busy host decisions are up to `lag_seconds` late. `untaken` estimates by type the events of items that the run
    will still take in before its deadline; `beyond` is how many items it will not. `kept` are the lanes kept for types.
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
    kept: Mapping[str, int] = {}

    def usable(self, event_type: EventType) -> tuple[Endpoint, ...]:
        """Return the endpoints that would answer a call begun now before the deadline."""
        return tuple(
            endpoint
            for endpoint in event_type.endpoints
            if needed_seconds(event_type, endpoint.name, self.expected) <= self.remaining_seconds
        )

    @property
    def ahead_seconds(self) -> float:
        """How far ahead lanes are given calls, seconds."""
        return AHEAD_SECONDS + LAGS * self.lag_seconds

    def part_of_lane(self, event_type: EventType) -> float:
        """Return which part of a lane a call of a type occupies in the time ahead, with the type's fastest endpoint."""
        turn = self.turnaround_seconds + self.shortest_seconds(event_type)
        return max(turn / (turn + self.ahead_seconds), 1 / (1 + MOST_AHEAD))

    def shortest_seconds(self, event_type: EventType) -> float:
        """Return how long a call of a type takes at its fastest endpoint."""
        return min(call_seconds(event_type, end.name, self.expected) for end in event_type.endpoints)

    def answered_in(self, event_type: EventType) -> float:
        """Return in how many seconds the next call of a type can be answered."""
        waits = map(self.wait_seconds, self.usable(event_type))
        return min(waits, default=math.inf) + self.shortest_seconds(event_type)

    def wait_seconds(self, endpoint: Endpoint) -> float:
        """Return the seconds until the next slot of an endpoint and its budget; 0 if there is one now."""
        windows = [self.windows[limited.name] for limited in (endpoint, endpoint.budget) if limited is not None]
        return max(0.0 if window.free > 0 else window.wait_seconds for window in windows)


def choose_releases(state: ReleaseState, types: Sequence[EventType]) -> dict[str, list[str]]:
    """Choose the calls to release now: for each type a list of endpoints, one entry per call.

    Lanes go to `types` in order, highest priority first, but a type that has had less than its share of the run's calls
    comes before them. A type gets no lane without a slot at its endpoints. Released calls, and claimed events without a
    slot, are subtracted from the free slots because they are about to take one.
    """
    free = _free_slots(state, types)
    parts = {one.name: state.part_of_lane(one) for one in types}
    turns = [(event_type, state.counts[event_type.name].pending) for event_type in types]
    if sharing := [event_type for event_type in types if event_type.share]:
        begin_now = sum(map(len, _choose(state, turns, dict(free), parts).values()))
        total, begun = sum(state.begun.values()) + begin_now, state.begun
        turns = [(one, due(one.share, total, begun.get(one.name, 0))) for one in sharing] + turns
    return _choose(state, turns, free, parts)


def _choose(
    state: ReleaseState, turns: Sequence[tuple[EventType, int]], free: dict[str, int], parts: Mapping[str, float]
) -> dict[str, list[str]]:
    """Take `free` slots for the types in the order of their turns, each with the most calls that it may get then.

    A call occupies one of the `parts` of a lane, by type.
    """
    lanes = _open_lanes(state, parts)
    chosen: dict[str, list[str]] = {}
    urgent: list[tuple[float, int]] = []
    for event_type, most in turns:
        had = chosen.get(event_type.name, [])
        part = parts[event_type.name]
        # Rounding must not take away a call that just fits.
        may_use = lanes - (kept_from(state.shortest_seconds(event_type), urgent) if urgent else 0)
        waiting = state.counts[event_type.name].pending - len(had)
        releases = _take(free, state.usable(event_type), min(most, math.floor(may_use / part + 1e-9), waiting))
        if event_type.name in state.kept and waiting > len(releases):
            urgent.append((state.answered_in(event_type), state.kept[event_type.name]))
        lanes -= len(releases) * part
        if releases:
            chosen[event_type.name] = [*had, *releases]
    return chosen


def _free_slots(state: ReleaseState, types: Sequence[EventType]) -> dict[str, int]:
    """Return the free slots by name, less those that released events are about to take."""
    free = {name: window.free for name, window in state.windows.items()}
    for event_type in types:
        count = state.counts[event_type.name]
        _take(free, event_type.endpoints, count.released + count.boarding)
    return free


def _take(free: dict[str, int], endpoints: tuple[Endpoint, ...], wanted: int) -> list[str]:
    """Take up to `wanted` slots from `free`, in the order of use; return the endpoint of each."""
    return list(islice(in_order_of_use(free, endpoints), wanted)) if endpoints and wanted > 0 else []


def _open_lanes(state: ReleaseState, parts: Mapping[str, float]) -> float:
    """Return how many lanes can be given calls: idle ones, and those that will soon be free."""
    counts = [(state.counts[name], part) for name, part in parts.items()]
    idle = state.lanes - sum(count.inflight + count.released * part for count, part in counts)
    return min(idle, burst_of(state.lanes)) + sum(count.inflight * (1 - part) for count, part in counts)


def burst_of(lanes: int) -> int:
    """Return how many of `lanes` idle lanes may be woken at once."""
    return max(BURST_LANES, int(BURST_SHARE * lanes))


def short_of_lanes(state: ReleaseState, types: Sequence[EventType]) -> bool:
    """Return whether an event waits only for a lane, because a slot is free for it, and lanes are not kept."""
    return not state.kept and any(
        state.counts[event_type.name].pending
        and any(state.wait_seconds(endpoint) <= 0 for endpoint in state.usable(event_type))
        for event_type in types
    )


def next_look_seconds(
    state: ReleaseState, types: Sequence[EventType], most: float, spent_seconds: float = 0.0
) -> float:
    """Return the seconds until the next release may be due, at most `most`; the windows were read `spent_seconds` ago.

    It is 0 while more lanes must be woken than one burst allows. If more calls are released than lanes are idle, it is
    at least half the time that they cover.
    """
    released = sum(count.released for count in state.counts.values())
    idle = state.lanes - sum(count.inflight for count in state.counts.values())
    if min(released, idle) > burst_of(state.lanes):
        return 0.0
    wait = next_slot_seconds(state, types)
    if wait == 0 and released > idle:
        wait = state.ahead_seconds / 2
    elif wait:
        wait = max(0.0, wait - spent_seconds)
    return most if wait is None else min(wait, most)


def can_send(state: ReleaseState, types: Sequence[EventType]) -> bool:
    """Return whether an open event may still be sent: a slot comes in time, or a call under way may fail in time."""
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
    """Return the seconds until the next slot for a pending event; None if no event is pending."""
    waits = [
        state.wait_seconds(endpoint)
        for event_type in types
        if state.counts[event_type.name].pending
        for endpoint in event_type.endpoints
    ]
    return min(waits, default=None)
