"""The benchmarks' own schedule and bound, which share nothing with RLM's planner."""

from __future__ import annotations

import pytest

from benchmarks.harness.schedule import best_schedule, lower_bound
from rlm.core.endpoint import Endpoint, EventType, Limit
from tests.each import each


def a_type(name, seconds, *limits, priority=1):
    endpoints = [
        Endpoint(f"{name}{number}", f"http://127.0.0.1:1/{name}{number}", Limit.parse(limit), timeout_seconds=10)
        for number, limit in enumerate(limits)
    ]
    return EventType(name, priority, seconds, tuple(endpoints))


def test_a_burst_ends_after_one_call():
    """What fits into fresh windows and free lanes takes as long as one call."""
    types = [a_type("A", 2.0, "30/minute", "30/minute")]

    assert best_schedule({"A": 60}, types, 100, 0.5).seconds == 2.0
    assert lower_bound({"A": 60}, types, 100) == 2.0


def test_a_full_window_opens_a_period_and_the_guard_later():
    """The event that is one too many waits for the first slot to come back; the bound knows no guard."""
    types = [a_type("A", 2.0, "30/minute")]

    assert best_schedule({"A": 31}, types, 100, 0.5).seconds == 62.5
    assert lower_bound({"A": 31}, types, 100) == 62.0


def test_every_rule_of_a_limit_holds():
    """Of several rules the one that opens last decides."""
    types = [a_type("A", 1.0, "2 per 10 second; 3/minute")]

    assert best_schedule({"A": 3}, types, 100, 0.0).seconds == 11.0
    assert best_schedule({"A": 4}, types, 100, 0.0).seconds == 61.0


def test_few_lanes_are_worked_off_one_call_after_the_other():
    """Where lanes are short, their work decides."""
    types = [a_type("A", 2.0, "30/minute")]

    assert best_schedule({"A": 10}, types, 3, 0.0).seconds == 8.0
    assert lower_bound({"A": 10}, types, 3) == pytest.approx(20 / 3)


def test_the_longest_calls_go_first_where_that_ends_sooner():
    """The better of two orders is taken, and named."""
    types = [a_type("short", 1.0, "30/minute", priority=5), a_type("long", 3.0, "30/minute", priority=1)]

    best = best_schedule({"short": 3, "long": 1}, types, 2, 0.0)

    assert (best.seconds, best.order) == (3.0, "longest first")


def test_nothing_ends_at_once():
    """Without events there is no call to wait for."""
    types = [a_type("A", 2.0, "30/minute")]

    assert best_schedule({"A": 0}, types, 100, 0.5).seconds == 0.0
    assert lower_bound({"A": 0}, types, 100) == 0.0


@each("counts", [(360, 360), (300, 5), (7, 200), (31, 0)])
@each("lanes", [1, 7, 100])
def test_no_schedule_beats_the_bound(counts, lanes):
    """Not even without a guard."""
    types = [a_type("A", 2.0, "30/minute", "30/minute"), a_type("B", 0.8, "30/minute")]
    backlog = {"A": counts[0], "B": counts[1]}

    assert lower_bound(backlog, types, lanes) <= best_schedule(backlog, types, lanes, 0.0).seconds
