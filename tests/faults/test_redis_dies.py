"""The embedded server dies during a run: it is started again, finished work is recorded, the run continues."""

from __future__ import annotations

import os
import signal

from rlm.core.errors import StoreError
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


def record_of(system, run_id):
    """Return the record of a run; None while the server is away."""
    try:
        return as_json(system.store.runs.record(run_id))
    except StoreError:
        return None
