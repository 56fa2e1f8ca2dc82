"""What does not fit waits for the next run, and the books balance in each."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.blackbox.api import OK, Answer
from tests.blackbox.system import moment, until

pytestmark = pytest.mark.rest

REASONS = {"slots", "lanes", "resting", "paused", "held", "retries", "workers", "redis"}


@pytest.fixture(scope="module")
def system(shared):
    types = {
        "A": {"rate_limit": "4 per 1 second", "priority": 5},
        "B": {"rate_limit": "3 per 1 second", "priority": 4},
        "FAILS": {"rate_limit": "100/second"},
    }
    system = shared(types, run={"window_seconds": 4, "every_seconds": 4}, retry={"max_runs": 2})
    system.api.say("fails", *[Answer(500)] * 3, OK)
    return system


@pytest.fixture(scope="module")
def records(system):
    """The records of three runs of the schedule and more, until nothing is left."""
    system.push_many(36, "A", start="first")
    system.push_many(24, "B", start="first")
    system.push_many(1, "FAILS")
    system.up()
    system.calls_under_way()
    system.push_many(4, "A", start="second")
    until("all is settled", lambda: system.unsettled() == 0, 60)
    return until("the last is closed", lambda: system.json("status")["state"] == "idle" and system.records(), 20)


def test_leftovers_are_carried_over_by_type_until_all_is_done(system, records):
    assert len(records) >= 3
    assert records[0]["state"] == "partial"
    assert records[-1]["state"] == "completed"
    for before, after in pairwise(records):
        for kind in system.types:
            assert after["by_type"][kind]["carried_over"] == before["by_type"][kind]["leftover"]
    assert sum(record["counts"]["taken"] for record in records) == 65


def test_leftovers_go_first(system, records):
    order = [call.event_id for call in system.api.of("a")]
    assert all(event.startswith("second") for event in order[-4:])


def test_attempts_are_counted_over_runs_under_one_key(system, records):
    calls = system.api.of("fails")
    assert [call.body["attempt"] for call in calls] == [1, 2, 3, 4]
    assert {call.headers["idempotency-key"] for call in calls} == {"i-0:FAILS"}
    assert len({call.body["run_id"] for call in calls}) == 2


def test_each_leftover_has_one_reason(system, records):
    for record in records:
        assert set(record["leftover_by_reason"]) == REASONS
        assert sum(record["leftover_by_reason"].values()) == record["counts"]["leftover"]
    assert records[0]["leftover_by_reason"]["slots"] >= 10
    assert records[0]["leftover_by_reason"]["retries"] == 1


def test_a_tick_with_nothing_to_do_leaves_no_record(system, records):
    ticked = moment(system.json("status")["last_tick"])
    until("another tick", lambda: moment(system.json("status")["last_tick"]) >= ticked + 3.9)
    assert len(system.json("list")) == len(records)


def test_what_is_promised_holds(system, records):
    system.assert_promises()
