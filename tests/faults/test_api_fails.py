"""The API fails in every possible way: what the others allow is done, no limit is exceeded, nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest

from rlm.core.endpoint import FAILING
from tests.acceptance.system import make_item
from tests.faults.test_processes_die import assert_next_run

pytestmark = pytest.mark.rest


@pytest.mark.parametrize("unhurried", [{"RLM_RETRY__TIMEOUT_SECONDS": "1"}], indirect=True)
def test_an_endpoint_that_never_answers_blocks_its_slots_and_no_other(unhurried):
    """Calls that hang are cut at their time-out and tried elsewhere, under the same key."""
    system = unhurried
    primary = system.settings.event_types[0].endpoints[0].name
    system.api.set_fault(primary, hang=True)
    events = system.push_evenly(300)

    record = system.await_record(system.ask_for_run())

    assert record["counts"]["completed"] == 300, record["counts"]
    assert record["by_endpoint"][primary]["errors"] > 0
    assert all(one.event_id in events for one in system.api.arrivals)
    system.assert_promises(events, [record])
    assert_next_run(system)


def test_errors_are_retried_until_they_succeed_or_the_attempts_are_spent(unhurried):
    """A third of all calls answers 500: most events are done in the end, the rest is left over, none is lost."""
    system = unhurried
    system.api.set_fault("*", error_rate=0.33)
    events = system.push_evenly(300)

    record = system.await_record(system.ask_for_run())

    assert record["counts"]["completed"] + record["counts"]["leftover"] == 300
    assert record["counts"]["completed"] > 250
    attempts = Counter(one.attempt for one in system.api.arrivals)
    assert attempts[2] > 0
    assert max(attempts) <= 3
    system.assert_promises(events, [record])
    system.api.set_fault("*")
    assert_next_run(system)


#: The overflow endpoint is full most of the time, and mostly when the primary is to be probed.
NARROW = """
[run]
window_seconds = 120
[types.NARROW]
priority = 5
processing_seconds = 0.5
rate_limit = "5 per 10 second"
endpoints = [
  { name = "failing", url = "http://127.0.0.1:1/failing" },
  { name = "healthy", url = "http://127.0.0.1:1/healthy" },
]
"""


def test_no_event_spends_all_its_attempts_at_an_endpoint_that_fails_beside_a_healthy_one(make_system):
    """However full that one is at the moment: each event is done in time, and the failing one is probed."""
    with make_system(document=NARROW) as system:
        system.api.set_fault("failing", error_rate=1.0)
        events = system.push([make_item(f"e{number}", "NARROW") for number in range(30)])
        system.start_both()

        record = system.await_record(system.ask_for_run())

        assert record["counts"]["completed"] == 30, record["counts"]
        failed = Counter(one.event_id for one in system.api.arrivals if one.endpoint == "failing")
        assert failed.total() > FAILING
        assert max(failed.values()) < system.settings.retry.max_attempts
        system.assert_promises(events, [record])
