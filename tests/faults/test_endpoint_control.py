"""Endpoints are controlled during a run, and their configuration changes within a window.

The API itself enforces the earlier limits; the later ones are checked here, from the arrivals.
"""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

pytestmark = pytest.mark.rest

PERIOD_SECONDS = 3.0
#: What may pass between the slot of a call and its arrival.
GUARD_SECONDS = 0.3

THREE_ENDPOINTS = """
[run]
window_seconds = 30
guard_seconds = 0.3
[workers]
max = 3
[types.T]
processing_seconds = 0.1
rate_limit = "10 per 3 second"
endpoints = [
    { name = "first", url = "http://h/1" }, { name = "second", url = "http://h/2" },
    { name = "third", url = "http://h/3" },
]
"""
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


def test_a_limit_and_a_pause_hold_in_mid_run_from_the_moment_they_are_set(make_system):
    """Lowered and raised, paused and resumed by command: the API sees no call that should not be, the others go on.

    Given a run in its middle, with more waiting than the limits let through at once,
    when the first endpoint's limit is lowered and the second endpoint is paused,
    then no call arrives that the lower limit does not allow, and none at the paused one but those under way; and once
    both are taken back, they are called as before, in the same run.
    """
    with make_system(speed=1, document=THREE_ENDPOINTS) as system:
        system.start_both()
        events = system.push_evenly(85)
        run_id = system.ask_for_run()
        wait_until(lambda: len(arrived(system, "second")) > 5, timeout=30, message="the run is in its middle")

        command(system, "endpoint", "limit", "first", "3 per 3 second")
        command(system, "endpoint", "pause", "second")
        paused_at = time.monotonic()
        wait_until(
            lambda: (
                time.monotonic() > paused_at + PERIOD_SECONDS + GUARD_SECONDS
                and most_in_a_period(arrived(system, "first"), paused_at + GUARD_SECONDS, time.monotonic()) >= 3
                and arrived(system, "third", since=paused_at)
            ),
            message="the second would have slots again, and the others are called",
        )
        conditions = json.loads(command(system, "status", "--json"))["conditions"]
        resumed_at = time.monotonic()
        command(system, "endpoint", "resume", "second")
        command(system, "endpoint", "limit", "first", "10 per 3 second")
        raised_at = time.monotonic()
        wait_until(lambda: arrived(system, "second", since=resumed_at), message="the second is called again")
        record = system.await_record(run_id)

        changes = [
            each for each in reversed(system.store.rules.changes()) if (each.name, each.what) == ("first", "limit")
        ]
        assert [each.after for each in changes] == ["10 per 3 seconds", "3 per 3 second", "10 per 3 second"]
        lowered, raised = (each.at - time.time() + time.monotonic() for each in changes[1:])
        assert most_in_a_period(arrived(system, "first"), lowered + GUARD_SECONDS, raised) == 3
        assert most_in_a_period(arrived(system, "first"), raised_at, time.monotonic()) > 3
        assert [at for at in arrived(system, "second", since=paused_at + GUARD_SECONDS) if at < resumed_at] == []
        assert ("endpoint_paused", "second") in {(each["code"], each["subject"]) for each in conditions}
        assert record["state"] == "completed", record["counts"]
        system.assert_promises(events, [record])
        assert_next_run(system)


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
        assert most_in_a_period(arrived(system, "second"), changed_at, time.monotonic(), period=6.0) <= 5
        assert most_in_a_period(arrived(system, "first"), changed_at, time.monotonic(), period=6.0) <= 10
        assert system.store.limits()["second"] == "5 per 6 seconds"
        system.assert_promises([*before, *after], [first_record, second_record])
        assert_next_run(system)


def command(system, *args):
    """Run a command in this process, a tenth of the time on a busy machine; return its output."""
    done = CliRunner().invoke(rlm, [*args, "--config", str(system.config)])
    assert done.exit_code == 0, (args, done.output, done.exception)
    return done.stdout


def reconfigured(document):
    """Rename the first endpoint but keep its URL; lower the limit of the second."""
    renamed = document.replace('"name" = "first"', '"name" = "renamed"')
    assert renamed != document
    lowered = renamed.replace('"name" = "second"', '"rate_limit" = "5 per 6 seconds", "name" = "second"')
    assert lowered != renamed
    return lowered


def arrived(system, endpoint, since=float("-inf")):
    """Return when calls arrived at an endpoint, in order, in monotonic seconds."""
    return [one.at for one in system.api.arrivals if one.endpoint == endpoint and one.at > since]


def most_in_a_period(times, since, until, period=PERIOD_SECONDS):
    """Return the most calls in any period that ends with a call between the two moments."""
    ends = [at for at in times if since < at < until]
    return max((sum(end - period < at <= end for at in times) for end in ends), default=0)
