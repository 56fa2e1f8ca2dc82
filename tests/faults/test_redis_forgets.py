"""Redis forgets data: no limit is exceeded, the log gives the reason, and remaining events are done."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.system import make_item
from tests.ownserver import OwnServer
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: A type that has what it needs in half a second, and endpoints of two seconds, real time.
DOCUMENT = """
[run]
window_seconds = 12
guard_seconds = 0.1
[retry]
timeout_seconds = 1.0
[types.QUICK]
priority = 5
processing_seconds = 0.1
rate_limit = "10 per 2 second"
endpoints = [ { name = "one", url = "http://127.0.0.1:1/one" }, { name = "two", url = "http://127.0.0.1:1/two" } ]
"""
#: Its period and its guard; a call that is under way counts when it is settled, whatever Redis forgot.
HELD_SECONDS = 2.0 + 0.1


@pytest.fixture
def server(tmp_path_factory):
    """A server of this test's own, outside the system's directory: it is restarted in between."""
    with OwnServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def quick(make_system, server):
    """A system of one type on that server, in real time, with scheduler and supervisor running."""
    with make_system(document=DOCUMENT, speed=1.0, redis_url=server.url) as made:
        made.start_both()
        yield made


def push(system, number, prefix):
    return system.push([make_item(f"{prefix}{index}", "QUICK") for index in range(number)])


def assert_held(system, since):
    """Check that from `since` (monotonic) no endpoint had a call before its rest was over, and it was said once."""
    later = [one.at - since for one in system.api.arrivals if one.at > since + 0.3]
    assert later
    assert min(later) >= HELD_SECONDS - 0.3
    assert system.log("scheduler").count("[action=hold_endpoints]") == 1
    assert re.search(r"WARNING +(Redis came back empty|Another server process)", system.log("scheduler"))


@pytest.mark.long
def test_emptied_between_two_runs_it_is_noticed_before_the_next_call(quick):
    """FLUSHALL while idle: each endpoint rests for its longest period, then the next run is done."""
    before = push(quick, 20, "before")
    quick.await_record(quick.ask_for_run())

    quick.store.client.flushall()
    emptied_at = time.monotonic()
    wait_until(lambda: "hold_endpoints" in quick.log("scheduler"), timeout=20, message="the scheduler notices")
    after = push(quick, 20, "after")
    record = quick.await_record(quick.ask_for_run())

    assert record["counts"]["completed"] == 20
    assert_held(quick, emptied_at)
    quick.assert_promises(before + after, [record])
    assert_next_run_of(quick)


@contextmanager
def killed(server, client):
    """Kill the server, let the block change its data, and restart it; yield its append-only file."""
    pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid), message="the server is dead")
    yield append_only_file(server)
    server.start()


def append_only_file(server):
    (found,) = server.data_dir.glob("appendonlydir/*.incr.aof")
    return found


def is_zombie(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def flush(server, client):
    """FLUSHALL, like a typing mistake."""
    client.flushall()


def restart_empty(server, client):
    """KILL, and delete its data."""
    with killed(server, client) as file:
        shutil.rmtree(file.parent)


@pytest.mark.parametrize("empty", [pytest.param(flush, marks=pytest.mark.long), restart_empty])
def test_emptied_in_the_middle_of_a_run_no_limit_is_exceeded(quick, server, empty):
    """What the ledger had is gone with it, the limits hold, it is said, and the next run is done."""
    push(quick, 60, "lost")
    quick.ask_for_run()
    wait_until(lambda: len(quick.answered()) >= 20, timeout=40, message="the run is in its middle")

    empty(server, quick.store.client)
    emptied_at = time.monotonic()
    wait_until(lambda: "hold_endpoints" in quick.log("scheduler"), timeout=20, message="the scheduler notices")
    after = push(quick, 20, "after")
    record = quick.await_record(quick.ask_for_run())

    assert record["counts"]["completed"] == 20
    assert_held(quick, emptied_at)
    quick.assert_promises(after, [record])
    assert set(after) <= set(quick.answered())
    assert_next_run_of(quick)


def test_restarted_as_it_was_a_while_ago_no_limit_is_exceeded(quick, server):
    """KILL, and the end of its append-only file is cut off: what it forgot is done again, after a rest."""
    events = push(quick, 60, "again")
    run_id = quick.ask_for_run()
    wait_until(lambda: len(quick.answered()) >= 10, timeout=40, message="the run is in its middle")
    size = append_only_file(server).stat().st_size
    wait_until(lambda: len(quick.answered()) >= 20, timeout=20, message="the run has gone on")

    with killed(server, quick.store.client) as file:
        os.truncate(file, size)
    restarted_at = time.monotonic()
    record = quick.await_record(run_id)

    assert_held(quick, restarted_at)
    assert record["counts"]["taken"] == 60
    quick.assert_promises(events, [record])
    assert set(quick.repeats()) <= set(events)
    assert_next_run_of(quick)


def assert_next_run_of(system):
    events = push(system, 2, "next")
    record = system.await_record(system.ask_for_run())
    assert record["counts"]["completed"] == 2
    assert set(events) <= set(system.answered())
