"""`rlm start`: with and without those who would conduct it."""

from __future__ import annotations

import signal

import pytest

from tests.blackbox.api import Answer
from tests.blackbox.system import assert_books, until

pytestmark = pytest.mark.rest


@pytest.fixture
def system(fresh):
    return fresh({"A": {"rate_limit": "2 per 1 second"}}, run={"window_seconds": 5}, retry={"timeout_seconds": 1})


def test_without_anybody_it_says_so(system):
    system.push_many(1, "A")
    result = system.rlm("start", "--json", code=1)
    assert result.out == ""
    assert "rlm" in result.err
    assert system.json("queue", "stats")["events"] == 1


def test_with_wait_it_conducts_the_run_with_workers_of_its_own(system):
    system.push_many(5, "A")
    record = system.run()
    assert record["counts"]["completed"] == 5
    assert record["trigger"] == "manual"
    until("its workers are gone", lambda: system.json("worker", "list") == [])
    system.assert_promises(by_hand=True)


def test_with_wait_it_conducts_the_run_with_the_supervisors_that_live(system):
    system.spawn("supervisor", RLM_HOST__NAME="elsewhere")
    [worker] = until("its worker", system.workers)
    system.push_many(3, "A")
    assert system.run()["counts"]["completed"] == 3
    assert [other["pid"] for other in system.workers()] == [worker["pid"]]
    assert worker["host"] == "elsewhere"


def test_a_scheduler_that_comes_up_meanwhile_stands_by(system):
    system.push_many(8, "A")
    start = system.spawn("start", "--wait")
    system.calls_under_way()
    system.spawn("scheduler")
    assert start.wait(20) == 0
    [record] = system.records()
    assert record["counts"]["completed"] == 8


def test_interrupted_it_cancels_the_run_that_it_conducts(system):
    system.push_many(9, "A")
    start = system.spawn("start", "--wait")
    system.calls_under_way(2)
    start.send_signal(signal.SIGINT)
    assert start.wait(10) == 130
    [record] = until("it is closed", system.records)
    assert record["state"] == "cancelled"
    assert_books(record)


def test_interrupted_it_leaves_alone_the_run_of_a_scheduler(system):
    system.up().run()
    system.push_many(7, "A")
    start = system.spawn("start", "--wait")
    system.calls_under_way(2)
    start.send_signal(signal.SIGINT)
    assert start.wait(10) == 130
    run_id = system.api.calls[0].body["run_id"]
    record = until("it goes on to its end", lambda: system.finished(run_id))
    assert record["counts"]["completed"] == 7


def test_a_run_left_open_by_a_dead_conductor_is_finished_first(system):
    system.push_many(9, "A")
    system.spawn("start", "--wait")
    system.calls_under_way(2)
    system.stop()
    until("the rest is done", lambda: system.run(code=None)["counts"]["leftover"] == 0, 30)
    assert len(system.records()) >= 2
    system.assert_promises(by_hand=True)


def test_cancel_closes_a_run_that_nobody_conducts(system):
    system.push_many(9, "A")
    system.spawn("start", "--wait")
    system.calls_under_way(2)
    system.stop()
    record = system.json("cancel")
    assert record["state"] == "cancelled"
    assert_books(record)
    assert system.json("status")["state"] == "idle"


def test_a_run_in_which_every_call_failed_is_a_failure(system):
    system.api.say("a", Answer(500))
    system.push_many(1, "A")
    assert system.run(code=1)["counts"]["leftover"] == 1


def test_a_dry_run_is_one_sentence_and_changes_nothing(system):
    system.push_many(50, "A")
    said = system.rlm("start", "--dry-run").out
    assert len(said.strip().splitlines()) == 1
    assert system.json("start", "--dry-run")["expected_leftover"] >= 30
    assert system.json("queue", "stats")["events"] == 50
    assert system.json("list") == []


def test_beside_a_scheduler_that_is_coming_up_it_is_conducted_by_either(system):
    failed = []
    for _ in range(6):
        system.up()
        result = system.rlm("start", "--wait", code=None)
        if result.code:
            failed.append(result.err)
        system.stop()
    assert failed == []
