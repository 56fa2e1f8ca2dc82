"""Just-in-time release, as a pure function: which events to release now, and the endpoint meant for each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from rlm.core.endpoint import in_order_of_use, take_slot
from rlm.core.expected import call_seconds, needed_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.counts import Counts
    from rlm.core.endpoint import Endpoint, EventType
    from rlm.core.expected import Expected, Pair
    from rlm.core.window import WindowState

#: A message takes about this long from its release to its claim, seconds: lanes free by then are counted on.
AHEAD_SECONDS = 0.05
#: Events released at one time, at the most, or this part of all lanes where that is more. A hundred calls that set out
#: in the same instant crowd each other on their way, and the last are read too late for their slots' guard.
BURST_EVENTS = 15
BURST_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Scene:
    """What a release is decided on, as it stands at one moment.

    `counts` by type; `views` of the windows, by the name of endpoint or budget; `lanes` there are; `remaining_seconds`
    to the deadline; what calls are `expected` to be like; by type the events `begun` in this run so far. `strangers`
    are the ready workers of another configuration, which claim nothing.
    """

    counts: Mapping[str, Counts]
    views: Mapping[str, WindowState]
    lanes: int
    remaining_seconds: float
    expected: Mapping[Pair, Expected] = field(default_factory=dict)
    begun: Mapping[str, int] = field(default_factory=dict)
    strangers: int = 0

    def usable(self, event_type: EventType) -> tuple[Endpoint, ...]:
        """Return the endpoints where a call begun now would be answered before the deadline."""
        return tuple(
            endpoint
            for endpoint in event_type.endpoints
            if needed_seconds(event_type, endpoint.name, self.expected) <= self.remaining_seconds
        )

    def wait_seconds(self, endpoint: Endpoint) -> float:
        """Return when the next slot of an endpoint comes, its budget allowing; 0 where there is one now."""
        views = [self.views[limited.name] for limited in (endpoint, endpoint.budget) if limited is not None]
        return max(0.0 if view.free > 0 else view.wait_seconds for view in views)


def choose_releases(scene: Scene, types: Sequence[EventType]) -> dict[str, list[str]]:
    """Choose the releases of this moment: for each type the endpoints, one for each event to release.

    Lanes go to `types` in their order, highest priority first, except that a type goes before them which has had less
    than its share of the run's calls. A type gets no lane that its endpoints have no slot for. What is released or
    claimed and has no slot yet is counted against the free slots, for it is going to take them.
    """
    free = _free_slots(scene, types)
    lanes = _open_lanes(scene, types)
    chosen: dict[str, list[str]] = {}
    for event_type, most in _turns(scene, types, lanes):
        had = chosen.get(event_type.name, [])
        wanted = min(most, lanes, scene.counts[event_type.name].pending - len(had))
        releases = _take(free, scene.usable(event_type), wanted)
        lanes -= len(releases)
        if releases:
            chosen[event_type.name] = [*had, *releases]
    return chosen


def _free_slots(scene: Scene, types: Sequence[EventType]) -> dict[str, int]:
    """Count the free slots by name, without those that released events are going to take."""
    free = {name: view.free for name, view in scene.views.items()}
    for event_type in types:
        count = scene.counts[event_type.name]
        _take(free, event_type.endpoints, count.released + count.boarding)
    return free


def _take(free: dict[str, int], endpoints: tuple[Endpoint, ...], wanted: int) -> list[str]:
    """Take up to `wanted` slots out of `free`, in the order of use; name the endpoint of each."""
    if not endpoints or wanted <= 0:
        return []
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    return [take_slot(free, by_name[name]) for name in islice(in_order_of_use(free, endpoints), wanted)]


def _open_lanes(scene: Scene, types: Sequence[EventType]) -> int:
    busy = sum(count.released + count.inflight for count in scene.counts.values())
    burst = max(BURST_EVENTS, int(BURST_SHARE * scene.lanes))
    return min(scene.lanes - busy + _falling_free(scene, types), burst)


def _falling_free(scene: Scene, types: Sequence[EventType]) -> int:
    """Estimate how many busy lanes fall free while a message is on its way."""
    rate = sum(scene.counts[one.name].inflight / _quickest_seconds(one, scene) for one in types)
    return math.floor(rate * AHEAD_SECONDS)


def _quickest_seconds(event_type: EventType, scene: Scene) -> float:
    return min(call_seconds(event_type, endpoint.name, scene.expected) for endpoint in event_type.endpoints)


def _turns(scene: Scene, types: Sequence[EventType], lanes: int) -> Iterator[tuple[EventType, int]]:
    """Yield the types in the order in which they may take lanes, each with the most it may take in that turn."""
    total = sum(scene.begun.values()) + max(0, lanes)
    for event_type in types:
        if event_type.share:
            yield event_type, math.floor(event_type.share * total) - scene.begun.get(event_type.name, 0)
    for event_type in types:
        yield event_type, lanes


def short_of_lanes(scene: Scene, types: Sequence[EventType]) -> bool:
    """Return whether an event waits for nothing but a lane: a slot is free for it."""
    return any(
        scene.counts[event_type.name].pending
        and any(scene.wait_seconds(endpoint) <= 0 for endpoint in scene.usable(event_type))
        for event_type in types
    )


def can_send(scene: Scene, types: Sequence[EventType]) -> bool:
    """Tell whether anything that is open may still be sent: something is under way, or a slot comes in time."""
    for event_type in types:
        count = scene.counts[event_type.name]
        if count.released or count.inflight:
            return True
        if count.open and any(
            scene.wait_seconds(endpoint) + needed_seconds(event_type, endpoint.name, scene.expected)
            <= scene.remaining_seconds
            for endpoint in event_type.endpoints
        ):
            return True
    return False


def next_slot_seconds(scene: Scene, types: Sequence[EventType]) -> float | None:
    """Return when the next slot comes that a pending event waits for, seconds; 0 now, None when none is waited for."""
    waits = [
        scene.wait_seconds(endpoint)
        for event_type in types
        if scene.counts[event_type.name].pending
        for endpoint in event_type.endpoints
    ]
    return min(waits, default=None)
