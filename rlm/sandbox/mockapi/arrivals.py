"""What arrives at the mock API, and the recount by which a whole run is judged."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable

import msgspec

from rlm.core.endpoint import Endpoint, Limit, Rule, all_limited


class Arrival(msgspec.Struct):
    """One call as the server saw it.

    `at` is when its last byte was read, in seconds of this machine's monotonic clock. `event_id` comes from the
    `Idempotency-Key`, `attempt` and `run_id` from the body, each None if the call did not say. `status` is None until
    it is answered, if ever. `accepted`: the limit admitted it, and it counts against that whatever the answer was.
    """

    at: float
    endpoint: str
    event_id: str | None
    attempt: int | None
    run_id: str | None
    status: int | None
    accepted: bool


class EndpointSummary(msgspec.Struct, frozen=True):
    """What one endpoint saw, or all endpoints of one budget together.

    `calls` are `accepted` or `refused` (by a limit); `cut` connections were closed before their call was read.
    `most` is the most accepted calls in any period of `limit`; of several rules, for the one that came closest to its
    amount.
    """

    calls: int
    accepted: int
    refused: int
    cut: int
    most: int
    limit: str


def recount(arrivals: Iterable[Arrival], rule: Rule) -> int:
    """Return the most accepted calls in any period of `rule`, wherever it begins; of one endpoint or budget.

    The fullest period can always be moved until it ends with an arrival, so only those need counting.
    """
    times = sorted(arrival.at for arrival in arrivals if arrival.accepted)
    return max((bisect_right(times, end) - bisect_right(times, end - rule.seconds) for end in times), default=0)


def summarise(arrivals: list[Arrival], limit: Limit, cut: int) -> EndpointSummary:
    """Count the `arrivals` of one endpoint, or of one budget's, and recount them against the `limit`."""
    accepted = sum(arrival.accepted for arrival in arrivals)
    counts = ((recount(arrivals, rule), rule.amount) for rule in limit.rules)
    most, _ = max(counts, key=lambda count: count[0] / count[1])
    return EndpointSummary(len(arrivals), accepted, len(arrivals) - accepted, cut, most, limit.text)


def by_limited(arrivals: Iterable[Arrival], endpoints: Collection[Endpoint]) -> dict[str, list[Arrival]]:
    """Return the arrivals at each endpoint, and of each budget those at its endpoints, by name."""
    limited = {endpoint.name: all_limited([endpoint]) for endpoint in endpoints}
    found: dict[str, list[Arrival]] = {one.name: [] for one in all_limited(endpoints)}
    for arrival in arrivals:
        for one in limited[arrival.endpoint]:
            found[one.name].append(arrival)
    return found


def exceeded(arrivals: Iterable[Arrival], endpoints: Collection[Endpoint]) -> list[str]:
    """Return a sentence for each rule, of an endpoint or a budget, of which more calls were accepted than it allows."""
    found = by_limited(arrivals, endpoints)
    return [
        f"{one.name} let {most} calls through in {rule.seconds:g} s, not {rule.amount}"
        for one in all_limited(endpoints)
        for rule in one.limit.rules
        if (most := recount(found[one.name], rule)) > rule.amount
    ]
