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

#: The longest wait for a healthy endpoint instead of a probe, seconds: as long as an endpoint that fails rests first.
#: If the healthy ones are busier, a probe that may reopen an endpoint is worth an event's last attempt.
MOST_SECONDS = 1.0
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
    """Choose for an event's last attempt in a run: not to probe, if a healthy endpoint has a slot soon and in time.

    `spare_seconds` has, for each endpoint that this host reaches, the time within which a call must begin.
    """
    waits = {one.name: _wait_seconds(one, views) if one.name in spare_seconds else None for one in endpoints}
    soon = [wait for name, wait in waits.items() if wait is not None and wait <= min(MOST_SECONDS, spare_seconds[name])]
    if not soon or None not in waits.values():
        return Candidates(endpoints)
    free = [one for one in endpoints if waits.get(one.name) == 0]
    return Candidates(free, max(LEAST_SECONDS, min(soon) - AHEAD_SECONDS))


def _wait_seconds(endpoint: Endpoint, views: Mapping[str, WindowState]) -> float | None:
    """Return the seconds until the next slot of an endpoint and its budget; None if one of them is suspect."""
    windows = [views[one.name] for one in (endpoint, endpoint.budget) if one is not None]
    if any(one.suspect for one in windows):
        return None
    return max(0.0 if one.free > 0 else one.wait_seconds for one in windows)
