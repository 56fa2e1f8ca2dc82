"""The configuration of endpoints changes within a window."""

from __future__ import annotations

import time

import pytest

from tests.faults.test_processes_die import assert_next_run

PERIOD_SECONDS = 6.0
TWO_ENDPOINTS = """
[run]
window_seconds = 30
guard_seconds = 0.3
[workers]
max = 2
[types.T]
processing_seconds = 0.1
rate_limit = "10 per 6 second"
endpoints = [{ name = "first", url = "http://h/1" }, { name = "second", url = "http://h/2" }]
"""


@pytest.mark.long
def test_a_configuration_that_changes_in_the_middle_of_a_window_allows_nothing_twice(make_system):
    """Renamed, an endpoint keeps its window; lowered, a limit counts the calls made under the one before.

    Given two endpoints that are both used up,
    when all is restarted at once with another name for the first and a lower limit of the second,
    then the first has no call more than its limit in any period, and the second none more than its new one after that.
    """
    with make_system(speed=1, document=TWO_ENDPOINTS) as system:
        system.start_both()
        before = system.push_evenly(20)
        first_record = system.await_record(system.ask_for_run())
        assert (len(arrived(system, "first")), len(arrived(system, "second"))) == (10, 10)

        system.stop("scheduler")
        system.stop("supervisor")
        changed_at = time.monotonic()
        system.config.write_text(reconfigured(system.config.read_text()))
        system.start_both()
        after = system.push_evenly(14, prefix="after")
        second_record = system.await_record(system.ask_for_run())

        assert second_record["counts"]["completed"] == 14, second_record["counts"]
        assert sorted(second_record["by_endpoint"]) == ["renamed", "second"]
        assert all(one["calls"] > 0 for one in second_record["by_endpoint"].values())
        assert most_in_a_period(arrived(system, "second"), changed_at, time.monotonic()) <= 5
        assert most_in_a_period(arrived(system, "first"), changed_at, time.monotonic()) <= 10
        assert system.store.limits()["second"] == "5 per 6 seconds"
        system.assert_promises([*before, *after], [first_record, second_record])
        assert_next_run(system)


def reconfigured(document):
    """Rename the first endpoint but keep its URL; lower the limit of the second."""
    renamed = document.replace('"name" = "first"', '"name" = "renamed"')
    assert renamed != document
    lowered = renamed.replace('"name" = "second"', '"rate_limit" = "5 per 6 seconds", "name" = "second"')
    assert lowered != renamed
    return lowered


def arrived(system, endpoint):
    """Return when calls arrived at an endpoint, in order, in monotonic seconds."""
    return [one.at for one in system.api.arrivals if one.endpoint == endpoint]


def most_in_a_period(times, since, until):
    """Return the most calls in any period that ends with a call between the two moments."""
    ends = [at for at in times if since < at < until]
    return max((sum(end - PERIOD_SECONDS < at <= end for at in times) for end in ends), default=0)
