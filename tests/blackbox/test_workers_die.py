"""Workers and supervisors die, freeze and are told to stop in mid-run; what is promised holds all the same."""

from __future__ import annotations

import os
import signal

import pytest

from tests.blackbox.api import CUT, HANG, Answer
from tests.blackbox.system import kill, until

pytestmark = pytest.mark.rest


@pytest.fixture
def system(mid_run):
    return mid_run


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


def test_everything_is_told_to_stop_and_started_again(system):
    for process in system.processes:
        process.terminate()
    for process in system.processes:
        assert process.wait(10) == 0
    assert len({call.event_id for call in system.api.calls}) == len(system.api.calls)  # calls under way were awaited
    system.up()
    system.assert_promises()


def test_a_worker_freezes(system):
    pid = system.workers()[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        system.assert_next_run_on_time()
    finally:
        os.kill(pid, signal.SIGCONT)
    system.assert_promises()


def test_the_api_goes_away_and_comes_back(system):
    for path in ("a", "a_2", "b"):
        system.api.say(path, CUT, CUT, CUT, HANG, CUT, Answer(500), HANG, CUT, Answer(delay=0.3))
    system.assert_promises()


def test_an_event_that_kills_its_workers_is_a_dead_letter(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}})

    def kill_workers(call):
        for worker in system.workers():
            os.kill(worker["pid"], signal.SIGKILL)
        return HANG

    system.api.say("a", kill_workers)
    [event] = system.up().push_many(1, "A")
    until("it is a dead letter", lambda: system.run(code=None) and system.letters(), 60)
    assert system.letter(event)["reason"] == "poison"
    assert 2 <= len(system.api.calls) <= 5
    system.assert_promises(by_hand=True)
