"""When a backlog is gone if as much arrives in every window as in the last runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit, all_limited
from rlm.core.text import counted

#: Less growth than this many events a window counts as none, because events arrive whole.
_NO_GROWTH: Final = 0.5


class Outlook(msgspec.Struct, frozen=True):
    """The number of `windows` after which nothing is left over; None if that never happens.

    `growth` is by how many events a window the backlog grows.
    """

    windows: int | None
    growth: float

    @property
    def sentence(self) -> str:
        """The answer in words."""
        arriving = "At the arrivals of the last runs the backlog"
        if self.windows is not None:
            return f"{arriving} is gone in {counted(self.windows, 'window')}."
        if self.growth < _NO_GROWTH:
            return f"{arriving} does not shrink."
        return f"{arriving} grows by about {counted(round(self.growth), 'event')} a window."


def look_ahead(
    types: Sequence[EventType],
    events: Mapping[str, int],
    left: Mapping[str, int],
    arrivals: Mapping[str, float],
    shut: Container[str],
    *,
    window_seconds: float,
    guard_seconds: float,
) -> Outlook:
    """Return the outlook of a planned run with these `events`, of which these are `left` over, by type.

    `arrivals` come in every `window_seconds`; endpoints and budgets named in `shut` admit nothing. A window completes
    at most what the limits allow in the long run, and of a type that leaves events over what the planned run does.
    """
    surplus, all_open = {}, []
    for kind in types:
        endpoints = [one for one in kind.endpoints if not any(each.name in shut for each in all_limited([one]))]
        all_open += endpoints
        most = window_seconds * _rate_of(endpoints, guard_seconds)
        if left[kind.name]:
            most = min(most, events[kind.name] - left[kind.name])
        surplus[kind.name] = arrivals.get(kind.name, 0.0) - most
    together = sum(arrivals.values()) - window_seconds * _rate_of(all_open, guard_seconds)
    growth = max(sum(one for one in surplus.values() if one > 0), together)
    stuck = any(left[name] and surplus[name] > -_NO_GROWTH for name in surplus)
    if growth >= _NO_GROWTH or stuck:
        return Outlook(None, max(0.0, growth))
    more = max((math.ceil(left[name] / -surplus[name]) for name in surplus if left[name]), default=0)
    return Outlook(1 + more, 0.0)


def _rate_of(endpoints: Iterable[Endpoint], guard_seconds: float) -> float:
    """Return the most calls a second of all endpoints; those that share a budget make at most what it allows."""
    rates: dict[Budget | None, float] = defaultdict(float)
    for endpoint in {one.name: one for one in endpoints}.values():
        rates[endpoint.budget] += _rate(endpoint.limit, guard_seconds)
    return sum(min(rate, _rate(budget.limit, guard_seconds)) if budget else rate for budget, rate in rates.items())


def _rate(limit: Limit, guard_seconds: float) -> float:
    return min(rule.amount / (rule.seconds + guard_seconds) for rule in limit.rules)
