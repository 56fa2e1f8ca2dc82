"""Lanes kept for an urgent type, in a whole system."""

from __future__ import annotations

import pytest

from tests.acceptance.system import make_item

pytestmark = [pytest.mark.alone, pytest.mark.long]

#: Four lanes, which 20 long calls would take just before the slots of the urgent type come back.
DOCUMENT = """
[run]
window_seconds = 90
guard_seconds = 2.5
[retry]
timeout_seconds = 60
[workers]
min = 1
max = 1
threads = 4
[types.QUICK]
priority = 9
processing_seconds = 1.0
rate_limit = "6 per 10 second"
endpoints = [{ name = "quick", url = "http://127.0.0.1:1/quick" }]
[types.SLOW]
priority = 1
processing_seconds = 20.0
rate_limit = "50 per 30 second"
endpoints = [{ name = "slow", url = "http://127.0.0.1:1/slow" }]
"""
#: How many more events than planned a busy machine may leave over; without kept lanes it is eleven more.
SLACK = 6


def test_a_run_keeps_the_lanes_that_its_plan_keeps(make_system):
    """And leaves about as many over as planned, where free lanes for all would leave 30 of the urgent ones."""
    with make_system(document=DOCUMENT) as system:
        quick = [make_item(f"q{number}", "QUICK") for number in range(60)]
        events = system.push([*quick, *(make_item(f"s{number}", "SLOW") for number in range(20))])
        system.start_both()

        record = system.await_record(system.ask_for_run())

        assert record["plan"]["kept"] == {"QUICK": 1}
        assert record["counts"]["leftover"] <= record["plan"]["expected_leftover"] + SLACK
        assert record["by_type"]["QUICK"]["leftover"] < 30 - SLACK
        system.assert_promises(events, [record])
