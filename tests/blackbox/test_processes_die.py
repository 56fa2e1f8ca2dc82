"""Processes die, freeze and are told to stop in mid-run; what is promised holds all the same."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.blackbox.api import CUT, HANG, Answer
from tests.blackbox.system import moment, until

pytestmark = pytest.mark.rest


@pytest.fixture
def system(fresh):
    """A system in the middle of a run of the schedule, with calls under way."""
    types = {
        "NEXT": {"priority": 9, "rate_limit": "100/second"},
        "A": {"rate_limit": "6 per 2 second", "endpoints": ["a", "a_2"], "processing_seconds": 0.3},
        "B": {"rate_limit": "3 per 1 second", "processing_seconds": 0.3},
    }
    run = {"window_seconds": 7, "every_seconds": 7}
    system = fresh(types, run=run, workers={"min": 1, "max": 3}, retry={"timeout_seconds": 1.5})
    for path in ("a", "a_2", "b"):
        system.api.say(path, Answer(delay=0.3))
    system.push_many(24, "A", start="a")
    system.push_many(12, "B", start="b")
    system.up()
    system.calls_under_way(8)
    return system


def kill(process):
    process.kill()
    process.wait()


def test_a_worker_is_killed(system):
    os.kill(system.workers()[0]["pid"], signal.SIGKILL)
    system.assert_promises()


def test_all_workers_are_killed(system):
    for worker in system.workers():
        os.kill(worker["pid"], signal.SIGKILL)
    system.assert_promises()
    assert sum(record["workers"]["restarted"] for record in system.records()) >= 1


def test_the_supervisor_is_killed_and_started_again(system):
    kill(system.supervisor)
    system.supervisor = system.spawn("supervisor")
    system.assert_promises()


def test_the_scheduler_is_killed_and_started_again(system):
    kill(system.scheduler)
    system.scheduler = system.spawn("scheduler")
    system.assert_promises()


def test_everything_is_killed_and_started_again(system):
    for process in system.processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    system.up()
    system.assert_promises()


def test_everything_is_told_to_stop_and_started_again(system):
    for process in system.processes:
        process.terminate()
    for process in system.processes:
        assert process.wait(10) == 0
    assert len({call.event_id for call in system.api.calls}) == len(system.api.calls)  # calls under way were awaited
    system.up()
    system.assert_promises()


def test_a_standby_takes_over(system):
    standby = system.spawn("scheduler")
    until("it runs", lambda: system.json("doctor", code=None) and standby.poll() is None)
    kill(system.scheduler)
    system.assert_promises()


def test_a_run_is_closed_at_its_deadline_without_a_scheduler(system):
    system.api.say("b", Answer(429, {"Retry-After": "60"}))
    run_id = system.api.calls[-1].body["run_id"]
    kill(system.scheduler)
    record = until("it is closed", lambda: system.finished(run_id), 12)
    assert moment(record["finished_at"]) <= moment(record["deadline"]) + 1
    assert record["state"] in {"partial", "completed"}
    system.scheduler = system.spawn("scheduler")
    system.api.say("b", Answer(delay=0.3))
    system.rlm("endpoint", "resume", "b")
    system.assert_promises()


def test_a_worker_freezes(system):
    pid = system.workers()[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        system.assert_next_run_on_time()
    finally:
        os.kill(pid, signal.SIGCONT)
    system.assert_promises()


def test_the_scheduler_freezes_beside_a_standby(system):
    system.spawn("scheduler")
    os.kill(system.scheduler.pid, signal.SIGSTOP)
    try:
        system.assert_next_run_on_time()
    finally:
        os.kill(system.scheduler.pid, signal.SIGCONT)
    system.assert_promises()


def test_the_api_goes_away_and_comes_back(system):
    for path in ("a", "a_2", "b"):
        system.api.say(path, CUT, CUT, CUT, HANG, CUT, Answer(500), HANG, CUT, Answer(delay=0.3))
    system.assert_promises()


def test_an_event_that_kills_its_workers_is_a_dead_letter(fresh):
    system = fresh({"A": {"rate_limit": "100/second", "endpoints": [{"name": "a", "timeout_seconds": 1}]}})

    def kill_workers(call):
        for worker in system.workers():
            os.kill(worker["pid"], signal.SIGKILL)
        return HANG

    system.api.say("a", kill_workers)
    [event] = system.up().push_many(1, "A")
    begun = time.monotonic()
    while not system.letters() and time.monotonic() < begun + 60:
        system.run(code=None)
    assert system.letter(event)["reason"] == "poison"
    assert len(system.api.calls) == 3
    system.assert_promises(by_hand=True)
