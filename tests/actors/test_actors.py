"""The two actors, as ordinary ones of Dramatiq: on a Redis broker, too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from unittest import mock
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker

from actors import record as actor
from actors.dispatch import make_dispatch
from actors.record import make_record
from rlm.ledger.connect import make_client
from tests.wait import wait_until

LANES = 3


@pytest.fixture
def broker(valkey_only_url):
    client = make_client(valkey_only_url)
    broker = RedisBroker(client=client, namespace=f"t{uuid4().hex[:8]}:dramatiq", middleware=[])
    yield broker
    for key in client.scan_iter(match=f"{broker.namespace}*", count=1000):
        client.delete(key)
    client.close()


def test_each_message_is_a_lane_and_a_run_is_recorded_while_all_carry(broker, monkeypatch):
    """So many messages, so many lanes at once, each for as long as it carries; with one thread more than lanes."""
    leave, under_way, store, closing = threading.Event(), [], mock.MagicMock(), mock.Mock()
    monkeypatch.setattr(actor, "close_run", closing)

    def carry():
        under_way.append(threading.get_ident())
        leave.wait(10)

    dispatch, record = make_dispatch(broker, carry), make_record(broker, store)
    worker = dramatiq.Worker(broker, worker_threads=LANES + 1, worker_timeout=50)
    worker.start()
    for _ in range(LANES):
        dispatch.send()
    for _ in range(3):
        record.send("run-1")
    wait_until(lambda: closing.call_count == 3, message="the messages are worked off")
    wait_until(lambda: len(set(under_way)) == LANES, message="the lanes are under way")
    leave.set()
    worker.stop()

    closing.assert_called_with(store, "run-1")


def test_a_supervisor_that_is_killed_leaves_no_directory_of_its_template(tmp_path):
    """Nobody else knows of it. The template ends when its supervisor and the workers have."""
    code = "from rlm.processes import launcher as own; own.start_template(['actors.preload']); own.os.abort()"
    subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "TMPDIR": str(tmp_path)})

    wait_until(lambda: not list(tmp_path.iterdir()), message="it is gone")


_SPAWN_AFTER_A_FAULT = """
import contextlib, os, socket, time
from rlm.processes import launcher
launcher.start_template(["actors.preload"])
place = os.environ[launcher.PLACE_VARIABLE]
with socket.socket(socket.AF_UNIX) as client:
    client.connect(os.path.join(place, *os.listdir(place)))
while os.path.exists(place):
    time.sleep(0.01)
while True:
    with contextlib.suppress(OSError):  # it is still ending
        process = launcher.spawn("os", "getpid")
        break
    time.sleep(0.05)
process.join()
raise SystemExit(process.exitcode)
"""


def test_a_template_that_ended_by_a_fault_is_followed_by_another(tmp_path):
    """It removes the directory in which the next one listens. A connection without a message is such a fault."""
    done = subprocess.run(
        [sys.executable, "-c", _SPAWN_AFTER_A_FAULT],
        check=False,
        timeout=30,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )

    assert done.returncode == 0
