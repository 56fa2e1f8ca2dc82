"""What the limits let through in the long run: whatever the plans of some windows show, no more can go on for ever."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlm.core.endpoint import all_limited

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from rlm.core.endpoint import Budget, Endpoint, EventType, Limit


@dataclass(frozen=True, slots=True)
class LongRun:
    """The most calls a window in the long run: `by_type` where each has its endpoints to itself, and all `together`.

    After `cycle` windows every limit has let through what it does in its period: before that no trend is sure.
    """

    by_type: Mapping[str, float] = field(default_factory=dict)
    together: float = math.inf
    cycle: float = 0.0

    @classmethod
    def of(cls, types: Sequence[EventType], shut: Container[str], seconds: float, guard_seconds: float) -> LongRun:
        """Work it out for windows of so many `seconds`; endpoints and budgets named in `shut` let nothing through."""
        endpoints = {
            kind.name: [one for one in kind.endpoints if not any(each.name in shut for each in all_limited([one]))]
            for kind in types
        }
        longest = max(one.limit.longest_seconds for kind in types for one in all_limited(kind.endpoints))
        return cls(
            {name: seconds * _a_second(ones, guard_seconds) for name, ones in endpoints.items()},
            seconds * _a_second([one for ones in endpoints.values() for one in ones], guard_seconds),
            (longest + guard_seconds) / seconds,
        )

    def surplus_of(self, name: str, arrivals: Mapping[str, float]) -> float:
        """Return by how many events a window the arrivals of a type exceed that; below zero what there is room for."""
        return arrivals.get(name, 0.0) - self.by_type.get(name, math.inf)

    def surplus(self, arrivals: Mapping[str, float]) -> float:
        """Return by how many, at the least, those of all types do."""
        of_each = sum(max(0.0, self.surplus_of(name, arrivals)) for name in arrivals)
        return max(of_each, sum(arrivals.values()) - self.together)


def _a_second(endpoints: Iterable[Endpoint], guard_seconds: float) -> float:
    """Return the most calls a second: of each endpoint, and of those with a budget no more than it allows together."""
    found: dict[Budget | None, float] = defaultdict(float)
    for one in {endpoint.name: endpoint for endpoint in endpoints}.values():
        found[one.budget] += _rate(one.limit, guard_seconds)
    return sum(min(rate, _rate(budget.limit, guard_seconds)) if budget else rate for budget, rate in found.items())


def _rate(limit: Limit, guard_seconds: float) -> float:
    return min(rule.amount / (rule.seconds + guard_seconds) for rule in limit.rules)
