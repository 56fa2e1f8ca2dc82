"""Redis is away for a moment, for longer than two windows, killed and restarted: no call without a slot, none lost."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.ledger import embedded
from tests.faults.behind import STEADY, behind_proxies
from tests.faults.test_processes_die import assert_next_run
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.rest


@pytest.fixture
def behind(tmp_path):
    """A system behind proxies, at ten times the speed, but with a window that suffices on a busy machine too."""
    with behind_proxies(tmp_path, env={**STEADY, "RLM_RUN__WINDOW_SECONDS": "90"}) as system:
        system.start_both()
        yield system


def away(system):
    """Cut and refuse all connections to Redis from every process."""
    for proxy in system.proxies.values():
        proxy.refuse()


def back(system):
    for proxy in system.proxies.values():
        proxy.accept()


def quiet(system):
    """Wait until every call with a slot has arrived: after that none may come."""
    wait_until(lambda: all(one.status is not None for one in system.api.arrivals), message="all calls are answered")
    return len(system.api.arrivals)


def test_away_for_a_second_in_mid_run(behind):
    """No call is begun meanwhile, what was answered meanwhile is settled afterwards, nothing is sent twice."""
    system = behind
    events = system.push_evenly(150)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 20, timeout=30, message="the run is in its middle")

    away(system)
    arrived = quiet(system)
    began = system_clock.monotonic()
    wait_until(lambda: system_clock.monotonic() > began + 1, message="a second has passed")
    assert len(system.api.arrivals) == arrived
    back(system)

    record = system.await_record(run_id)
    assert record["state"] == "completed", record["counts"]
    assert record["counts"]["completed"] == 150
    assert not system.repeats()
    assert "could not be settled" not in system.log("supervisor")
    system.assert_promises(events, [record])
    system.assert_slots()
    assert_next_run(system)


def test_killed_and_restarted_with_its_file_in_mid_run(behind, tmp_path, monkeypatch):
    """KILL for a server of one's own: while it loads it is waited for, then the run goes on where it was."""
    system = behind
    filler = system.store.client.pipeline(transaction=False)
    for number in range(10_240):  # it looks up from its loading every 1024 commands, and a connection begins with some
        filler.set(f"filler:{number}", "")
    filler.execute()
    events = system.push_evenly(150)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 20, timeout=30, message="the run is in its middle")
    # Each command of the file takes that many microseconds, so that the server says LOADING for a while.
    slow = tmp_path / "slow-to-load"
    slow.write_text(f'#!/bin/sh\nexec {embedded.binary_path()} "$@" --key-load-delay 300\n')
    slow.chmod(0o700)
    monkeypatch.setattr(embedded, "binary_path", lambda: slow)

    os.kill(system.store.client.info("server")["process_id"], signal.SIGKILL)
    wait_until(lambda: not system.server.running, message="it is dead")
    arrived = quiet(system)
    restart = threading.Thread(target=system.server.start)
    restart.start()
    wait_until(lambda: not restart.is_alive() or _loading(system), timeout=20, message="it loads")
    loaded_while_asked = restart.is_alive()
    restart.join()

    record = wait_until(lambda: _record(system, run_id), timeout=100, message="the run is closed")
    assert loaded_while_asked
    assert len(system.api.arrivals) > arrived
    assert record["state"] == "completed", record["counts"]
    assert record["counts"]["completed"] == 150
    assert "is loading the dataset" in system.log("scheduler") + system.log("supervisor")
    system.assert_promises(events, [record])
    system.assert_slots()
    assert_next_run(system)


def _loading(system):
    try:
        system.store.runs.current()
    except StoreError as error:
        return "loading" in str(error)
    return False


def _record(system, run_id):
    try:
        return as_json(system.store.runs.record(run_id))
    except StoreError:
        return None


@pytest.mark.long
def test_a_slow_line_to_redis_makes_a_run_slow_and_nothing_else(behind):
    """At 150 kB/s a slot comes too late to be used every so often: it is given back, and no limit is exceeded."""
    system = behind
    for proxy in system.proxies.values():
        proxy.bytes_per_second = 150_000

    events, record = system.run_through(10, prefix="slow", timeout=100)

    for proxy in system.proxies.values():
        proxy.bytes_per_second = 0
    assert record["state"] in {"completed", "partial"}
    system.assert_promises(events, [record])
    system.assert_slots()
    assert_next_run(system)
