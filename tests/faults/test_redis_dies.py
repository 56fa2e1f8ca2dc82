"""Redis dies during a run: no call without a slot, finished work is recorded, the run continues."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.test_processes_die import assert_next_run
from tests.values import as_json
from tests.wait import wait_until


def test_a_killed_server_is_revived_and_the_run_goes_on(unhurried):
    """KILL for the embedded server: whoever needs it first starts it again, and nothing acknowledged is lost."""
    system = unhurried
    events = system.push_evenly(400)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 100, timeout=30, message="the run is in its middle")
    pid = system.store.client.info("server")["process_id"]

    os.kill(pid, signal.SIGKILL)

    record = wait_until(lambda: record_of(system, run_id), timeout=40, message="the run is closed")
    assert record["state"] == "completed", record["counts"]
    assert record["counts"]["completed"] == 400
    assert not system.repeats()
    system.assert_promises(events, [record])
    assert_next_run(system)


@pytest.fixture
def short(make_system):
    """A system with half the window and ready workers, so that no second is lost while they start."""
    with make_system(env={"RLM_RUN__WINDOW_SECONDS": "9", "RLM_WORKERS__MIN": "4"}) as made:
        made.start_both()
        wait_until(lambda: len(made.workers()) == 4, timeout=40, message="the workers are ready")
        yield made


@pytest.mark.rest
def test_a_server_away_beyond_the_deadline_fails_the_run_and_loses_nothing(short):
    """The server is frozen past the deadline: the run failed, what was not settled is taken by the next one."""
    system = short
    events = system.push_evenly(1800)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 20, timeout=30, message="the run is under way")
    pid = system.store.client.info("server")["process_id"]
    deadline = system.store.runs.current().deadline

    os.kill(pid, signal.SIGSTOP)
    try:
        from rlm.core.clock import system_clock

        wait_until(lambda: system_clock.now() > deadline + 1, timeout=30, message="the deadline has passed")
    finally:
        os.kill(pid, signal.SIGCONT)

    record = wait_until(lambda: record_of(system, run_id), timeout=20, message="the run is closed")
    assert record["state"] == "failed"
    assert record["counts"]["leftover"] > 0
    system.assert_promises(events, [record])
    assert_next_run(system)


def record_of(system, run_id):
    """Return the record of a run; None while the server is away."""
    from rlm.core.errors import StoreError

    try:
        return as_json(system.store.runs.record(run_id))
    except StoreError:
        return None
