"""Just-in-time release, as a pure function: which events to release now, and the endpoint meant for each."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from rlm.endpoint import in_order_of_use

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.endpoint import EventType
    from rlm.store.ledger import Counts
    from rlm.store.window import View

#: A message takes about this long from its release to its claim, seconds: lanes free by then are counted on.
AHEAD_SECONDS = 0.05


def choose_releases(
    counts: Mapping[str, Counts],
    views: Mapping[str, View],
    types: Sequence[EventType],
    lanes: int,
    remaining_seconds: float,
) -> dict[str, list[str]]:
    """Choose the releases of this moment: for each type the endpoints, one for each event to release.

    Lanes go to `types` in their order, highest priority first; a type gets none that its endpoints have no slot for.
    What is released or claimed and has no slot yet is counted against the free slots, for it is going to take them.
    """
    free = {name: view.free for name, view in views.items()}
    busy = sum(count.released + count.inflight for count in counts.values())
    open_lanes = lanes - busy + _falling_free(counts, types)
    chosen: dict[str, list[str]] = {}
    for event_type in types:
        count = counts[event_type.name]
        due = count.released + count.boarding
        slots = list(islice(in_order_of_use(free, event_type.endpoints), due + max(0, open_lanes)))
        fits = event_type.needed_seconds <= remaining_seconds
        releases = slots[due:][: count.pending if fits else 0]
        for name in (*slots[:due], *releases):
            free[name] -= 1
        if releases:
            chosen[event_type.name] = releases
            open_lanes -= len(releases)
    return chosen


def _falling_free(counts: Mapping[str, Counts], types: Sequence[EventType]) -> int:
    """Estimate how many busy lanes fall free while a message is on its way."""
    rate = sum(counts[one.name].inflight / one.processing_seconds for one in types)
    return math.floor(rate * AHEAD_SECONDS)


def can_send(
    counts: Mapping[str, Counts], views: Mapping[str, View], types: Sequence[EventType], remaining_seconds: float
) -> bool:
    """Tell whether anything that is open may still be sent: something is under way, or a slot comes in time."""
    for event_type in types:
        count = counts[event_type.name]
        if count.released or count.inflight:
            return True
        if not count.open:
            continue
        waits = [views[one.name].wait_seconds if not views[one.name].free else 0.0 for one in event_type.endpoints]
        if min(waits) + event_type.needed_seconds <= remaining_seconds:
            return True
    return False


def next_slot_seconds(
    counts: Mapping[str, Counts], views: Mapping[str, View], types: Sequence[EventType]
) -> float | None:
    """Return when the next slot comes that a pending event waits for, seconds; 0 now, None when none is waited for."""
    waits = [
        0.0 if views[endpoint.name].free else views[endpoint.name].wait_seconds
        for event_type in types
        if counts[event_type.name].pending
        for endpoint in event_type.endpoints
    ]
    return min(waits, default=None)
