"""The cases of the planner's benchmark."""

from __future__ import annotations

import pytest

from benchmarks.planning_scale import CASES, Case
from tests.each import each

SHAPES = sorted({(one.types, one.endpoints) for one in CASES if one.types * one.endpoints <= 100})


@each("lanes", [100, 10_000])
@each(("types", "endpoints"), SHAPES)
def test_every_lane_is_at_work_in_mid_run(types, endpoints, lanes):
    """Also where there are fewer endpoints than lanes; no endpoint has two calls more than another."""
    case = Case(types, endpoints, 1_000, lanes)

    calls = [one.endpoint for one in case.progress().underway]

    counts = {calls.count(name) for name in set(calls)}
    assert len(calls) == lanes
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("types", [5, 2_500])
def test_types_are_planned_high_to_low_priority(types):
    """As `compute_plan` asks for them."""
    priorities = [one.priority for one in Case(types, 1, 1_000, 100).event_types()]

    assert priorities == sorted(priorities, reverse=True)
    assert len(priorities) == types


def test_failing_calls_are_measured_too():
    """Retries are what a plan in mid-run has beyond one before it."""
    assert any(one.error_rate == 0.03 for one in CASES)
