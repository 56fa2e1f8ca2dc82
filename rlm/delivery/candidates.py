"""Which endpoints an event may be sent to now, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nsmallest
from typing import TYPE_CHECKING

from msgspec import Struct

from rlm.core.endpoint import Endpoint, EventType, in_force
from rlm.ledger.turns import MOST_TRIED

if TYPE_CHECKING:
    from rlm.core.window import WindowState
    from rlm.ledger.claims import Claim

#: An event that waits for an endpoint is pending again this many seconds before its slot, to be the first to take it.
AHEAD_SECONDS = 0.15
#: The least that it waits, seconds, because the endpoint that it must not take may have a slot all the time.
LEAST_SECONDS = 0.05


class Candidates(Struct, frozen=True):
    """The endpoints to try now, in order. If none has a slot, the event waits for `wait_seconds`; None: not at all."""

    endpoints: Sequence[Endpoint]
    wait_seconds: float | None = None


def endpoints_for(claim: Claim, event_type: EventType) -> list[Endpoint]:
    """Return the endpoint meant for the event, then the type's others, last the one at which it failed last."""

    def place(endpoint: Endpoint) -> tuple[bool, bool]:
        return endpoint.name == claim.last_endpoint and claim.tries > 0, endpoint.name != claim.endpoint

    first = nsmallest(MOST_TRIED, event_type.endpoints, key=place)  # like `sorted`, but only the first ones
    return [in_force(endpoint, claim.limits) for endpoint in first]


def choose_last(
    endpoints: Sequence[Endpoint], spare_seconds: Mapping[str, float], views: Mapping[str, WindowState]
) -> Candidates:
    """Choose for an event's last attempt in a run: healthy endpoints only, if one has a slot in time.

    Otherwise an endpoint that fails would be probed with it, only because the healthy ones are full at the moment.
    `spare_seconds` has, for each endpoint that did not fail it last, the time within which a call must begin.
    """
    waits = {one.name: _wait_seconds(one, views) for one in endpoints if one.name in spare_seconds}
    in_time = {name: wait for name, wait in waits.items() if wait is not None and wait <= spare_seconds[name]}
    if not in_time:
        return Candidates(endpoints)
    free = [one for one in endpoints if in_time.get(one.name) == 0]
    return Candidates(free, max(LEAST_SECONDS, min(in_time.values()) - AHEAD_SECONDS))


def _wait_seconds(endpoint: Endpoint, views: Mapping[str, WindowState]) -> float | None:
    """Return the seconds until the next slot of an endpoint and its budget; None if one of them fails."""
    windows = [views[one.name] for one in (endpoint, endpoint.budget) if one is not None]
    if any(one.suspect for one in windows):
        return None
    return max(0.0 if one.free > 0 else one.wait_seconds for one in windows)
