"""Schedulers die and freeze in mid-run; what is promised holds all the same."""

from __future__ import annotations

import os
import signal

import pytest

from tests.blackbox.api import Answer
from tests.blackbox.system import kill, moment, until

pytestmark = pytest.mark.rest


@pytest.fixture
def system(mid_run):
    return mid_run


def test_the_scheduler_is_killed_and_started_again(system):
    kill(system.scheduler)
    system.scheduler = system.spawn("scheduler")
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
    record = until("it is closed", lambda: system.finished(run_id), 10)
    assert moment(record["finished_at"]) <= moment(record["deadline"]) + 1
    assert record["state"] in {"partial", "completed"}
    system.scheduler = system.spawn("scheduler")
    system.api.say("b", Answer(delay=0.3))
    system.rlm("endpoint", "resume", "b")
    system.assert_promises()


def test_the_scheduler_freezes_beside_a_standby(system):
    system.spawn("scheduler")
    os.kill(system.scheduler.pid, signal.SIGSTOP)
    try:
        system.assert_next_run_on_time()
    finally:
        os.kill(system.scheduler.pid, signal.SIGCONT)
    system.assert_promises()


def test_everything_is_killed_and_started_again(system):
    system.stop()
    system.up()
    system.assert_promises()
