"""The two actors, as ordinary ones of Dramatiq: on the broker that workers use, and the same on a Redis broker."""

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
from dramatiq.brokers.stub import StubBroker

from actors import dispatch as actors
from actors.dispatch import make_dispatch, make_record
from rlm.ledger.connect import make_client
from tests.wait import wait_until

LANES = 3


@pytest.fixture(params=["stub", "redis"])
def broker(request):
    if request.param == "stub":
        yield StubBroker(middleware=[])
        return
    client = make_client(request.getfixturevalue("valkey_only_url"))
    broker = RedisBroker(client=client, namespace=f"t{uuid4().hex[:8]}:dramatiq", middleware=[])
    yield broker
    for key in client.scan_iter(match=f"{broker.namespace}*", count=1000):
        client.delete(key)
    client.close()


@pytest.fixture
def work(broker):
    """Start a stock worker with so many threads."""
    workers = []

    def start(threads):
        workers.append(dramatiq.Worker(broker, worker_threads=threads, worker_timeout=50))
        workers[-1].start()
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def closing(monkeypatch):
    closing = mock.Mock()
    monkeypatch.setattr(actors, "close_run", closing)
    return closing


def test_each_message_is_a_lane(broker, work):
    """So many messages, so many lanes at once, each for as long as it carries."""
    leave, under_way = threading.Event(), []

    def carry():
        under_way.append(threading.get_ident())
        leave.wait(10)

    dispatch = make_dispatch(broker, carry)
    worker = work(LANES + 1)
    for _ in range(LANES):
        dispatch.send()
    wait_until(lambda: len(under_way) == LANES, message="the lanes are under way")
    leave.set()
    worker.join()

    assert len(set(under_way)) == LANES


def test_a_run_is_recorded_while_every_lane_carries(broker, work, closing):
    """With one thread more than lanes."""
    leave, store = threading.Event(), mock.MagicMock()
    dispatch, record = make_dispatch(broker, lambda: leave.wait(10)), make_record(broker, store)
    work(LANES + 1)
    for _ in range(LANES):
        dispatch.send()
    for _ in range(3):
        record.send("run-1")
    wait_until(lambda: closing.call_count == 3, message="the messages are worked off")
    leave.set()

    closing.assert_called_with(store, "run-1")


def test_a_supervisor_that_is_killed_leaves_no_directory_of_its_template(tmp_path):
    """Nobody else knows of it. The template ends when its supervisor and the workers have."""
    code = "from rlm.processes import launcher as own; own.start_template(['actors.preload']); own.os.abort()"
    subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "TMPDIR": str(tmp_path)})

    wait_until(lambda: not list(tmp_path.iterdir()), message="it is gone")
