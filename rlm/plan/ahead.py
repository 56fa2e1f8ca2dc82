"""Several windows planned one after the other, each with what the one before it left over and called."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from rlm.core.endpoint import all_limited
from rlm.core.window import WindowState
from rlm.plan.outlook import NO_GROWTH, Ahead, Outlook, is_steady, span_of
from rlm.plan.situation import Situation
from rlm.plan.window import SECOND, ticks
from rlm.plan.workers import choose_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rlm.core.endpoint import Limited
    from rlm.plan.outlook import LongRun
    from rlm.plan.situation import Course, Start
    from rlm.plan.values import Capacity, Horizon, Workload

_FRESH = WindowState()


def look_ahead(
    workload: Workload,
    arrivals: Mapping[str, float],
    number: int,
    plan: Callable[[Workload], Course],
    carry: Callable[[Workload, Sequence[Start]], Mapping[str, WindowState]],
    long_run: LongRun,
) -> Outlook:
    """Plan up to `number` windows one after the other, fewer once nothing new is expected.

    Args:
        workload: what the first window begins with.
        arrivals: events by type that come between the starts of two, a fraction as often as it adds up to a whole one.
        number: how many windows.
        plan: the course of a window that begins with this workload.
        carry: the windows of endpoints and budgets a window later, after these starts.
        long_run: what the limits admit in the long run.
    """
    ahead: list[Ahead] = []
    for passed in range(1, number + 1):
        course = plan(workload)
        ahead.append(Ahead(workload.backlog, dict(course.left)))
        if _tells_no_more(ahead, arrivals, number, span_of(long_run.cycle)):
            break
        backlog = {name: left + _arrived(arrivals.get(name, 0.0), passed) for name, left in course.left.items()}
        workload = replace(workload, backlog=backlog, windows=carry(workload, course.starts))
    return Outlook(tuple(ahead), arrivals, long_run)


def _arrived(rate: float, passed: int) -> int:
    """Return how many whole events come after window number `passed`, so that their sum keeps to the rate."""
    return math.floor(rate * passed + NO_GROWTH) - math.floor(rate * (passed - 1) + NO_GROWTH)


def _tells_no_more(ahead: Sequence[Ahead], arrivals: Mapping[str, float], number: int, span: int) -> bool:
    """Return whether nothing new is expected: all is done, or a lasting trend goes on beyond the last window."""
    left = [one.leftover for one in ahead]
    quiet = span if any(arrivals.values()) else 1
    if len(left) >= quiet and not any(left[-quiet:]):
        return True
    if not is_steady(left, span):
        return False
    between, now = left[-1 - span], left[-1]
    return now >= between or now > (number - len(left)) * (between - now) / span


def course_of(workload: Workload, capacity: Capacity, horizon: Horizon) -> Course:
    """Return the course of the run that `compute_plan` plans with these arguments."""
    situation = Situation.of(workload, horizon, capacity.turnaround_seconds)
    return choose_workers(situation, capacity, horizon).course


def carried(
    workload: Workload, starts: Sequence[Start], seconds: float, guard_seconds: float
) -> dict[str, WindowState]:
    """Return the windows of endpoints and budgets `seconds` later, after these calls have begun."""
    endpoints = {endpoint.name: endpoint for kind in workload.types for endpoint in kind.endpoints}
    limited = {name: [one.name for one in all_limited([endpoint])] for name, endpoint in endpoints.items()}
    calls: dict[str, list[tuple[int, int]]] = defaultdict(list)
    later = ticks(seconds)
    for start in starts:
        for name in limited[start.endpoint]:
            calls[name].append((later - start.at, start.events))
    return {
        one.name: _later(workload.windows.get(one.name, _FRESH), one, calls[one.name], seconds, guard_seconds)
        for one in all_limited(endpoints.values())
    }


def _later(
    window: WindowState, one: Limited, calls: Sequence[tuple[int, int]], seconds: float, guard_seconds: float
) -> WindowState:
    """Keep the calls that still count, at most as many as a rule allows: older ones cannot keep a window shut."""
    most = max(rule.amount for rule in one.limit.rules)
    span = one.limit.longest_seconds + guard_seconds
    then = window.later(seconds)
    newest_first = (age / SECOND for age, number in reversed(calls) for _ in range(number))
    counting = itertools.takewhile(lambda age: age < span, itertools.chain(newest_first, sorted(then.ages)))
    return replace(then, ages=tuple(itertools.islice(counting, most)))
