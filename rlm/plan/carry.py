"""How one of several windows is planned, and what it hands on to the next: calls that still count."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from rlm.core.endpoint import all_limited
from rlm.plan.gate import SECOND, ticks
from rlm.plan.situation import Situation
from rlm.plan.values import Window
from rlm.plan.workers import choose_workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rlm.core.endpoint import EventType, Limited
    from rlm.core.expected import Expected
    from rlm.plan.course import Course, Start
    from rlm.plan.values import Capacity, Horizon

_FRESH = Window()


def course_of(
    backlog: Mapping[str, int],
    types: Sequence[EventType],
    windows: Mapping[str, Window],
    capacity: Capacity,
    horizon: Horizon,
    *,
    workers: int | None = None,
    expected: Mapping[tuple[str, str], Expected] | None = None,
) -> Course:
    """Return the course of the run that `compute_plan` plans with these arguments."""
    if workers is not None:
        capacity = replace(capacity, min_workers=workers, max_workers=workers)
    situation = Situation.of(backlog, types, windows, horizon, capacity.turnaround_seconds, expected)
    return choose_workers(situation, capacity, horizon).course


def carried(
    windows: Mapping[str, Window],
    starts: Sequence[Start],
    types: Iterable[EventType],
    seconds: float,
    guard_seconds: float,
) -> dict[str, Window]:
    """Return what the windows of endpoints and budgets hold `seconds` later, these calls having begun meanwhile."""
    endpoints = {endpoint.name: endpoint for kind in types for endpoint in kind.endpoints}
    limited = {name: [one.name for one in all_limited([endpoint])] for name, endpoint in endpoints.items()}
    calls: dict[str, list[tuple[int, int]]] = defaultdict(list)
    later = ticks(seconds)
    for start in starts:
        for name in limited[start.gate]:
            calls[name].append((later - start.at, start.events))
    return {
        one.name: _later(windows.get(one.name, _FRESH), one, calls[one.name], seconds, guard_seconds)
        for one in all_limited(endpoints.values())
    }


def _later(
    window: Window, one: Limited, calls: Sequence[tuple[int, int]], seconds: float, guard_seconds: float
) -> Window:
    """Keep the calls that still count, the newest as many as a rule allows: older ones cannot keep anything shut."""
    most = max(rule.amount for rule in one.limit.rules)
    span = one.limit.longest_seconds + guard_seconds
    then = window.later(seconds)
    ages = itertools.chain(_newest_first(calls), sorted(then.ages))
    counting = itertools.takewhile(lambda age: age < span, ages)
    return replace(then, ages=tuple(itertools.islice(counting, most)))


def _newest_first(calls: Sequence[tuple[int, int]]) -> Iterator[float]:
    for age, number in reversed(calls):
        yield from itertools.repeat(age / SECOND, number)
