"""A worker process without lanes that work: what it starts, announces, hears, costs and leaves behind."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from types import SimpleNamespace
from unittest import mock

import pytest

from actors import record
from actors import worker as actors_worker
from actors.worker import UNFIT, WorkerProcess
from rlm.core.errors import StoreError
from rlm.ledger.connect import make_client
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.store import Store
from rlm.processes.signals import StopSignals
from rlm.settings import load_settings
from rlm.settings.secrets import Secrets, mask, remember
from tests.wait import wait_until

ID = "host:1:a:1"
#: Seconds in which an idle worker is watched, and the most commands of that: a heartbeat of three, and this test's own.
WATCHED_SECONDS, MOST_COMMANDS = 1.5, 7


class FakeLanes:
    """Lanes that carry nothing: each waits for the stop, or for its end."""

    def __init__(self, _store, _connections, _worker_id, close):
        self.close, self.sleeping, self.completed = close, "", Counter()
        self.threads, self.end, self.ended = [], None, threading.Event()
        self.gate = SimpleNamespace(wake=lambda: None, stop=self.ended.set)

    def carry(self):
        self.threads.append(threading.get_ident())
        self.ended.wait()
        if self.end is not None:
            raise self.end


class Running:
    """A worker process in a thread of this one."""

    def __init__(self, store, prefix):
        self.store, self.prefix = store, prefix
        self.stop = StopSignals()
        self.process = WorkerProcess(store, ID, "", self.stop)
        self.lanes = self.process._lanes
        self.thread = threading.Thread(target=self.process.run, daemon=True)

    def start(self):
        self.thread.start()
        wait_until(lambda: self.states() == [WorkerState.READY], message="the worker is ready")
        wait_until(lambda: len(self.lanes.threads) == self.store.settings.workers.threads, message="its lanes begin")

    def states(self):
        return [one.state for one in self.store.processes.register().living(Role.WORKER)]

    def leave(self, timeout=5.0):
        self.stop.graceful = True
        self.stop.wake()
        self.thread.join(timeout)
        assert not self.thread.is_alive()

    def left(self):
        """Return the keys of this installation, without its prefix."""
        return sorted(key.decode().partition(":")[2] for key in self.store.client.keys(f"{self.prefix}*"))


@pytest.fixture
def running(valkey_only_url, monkeypatch, tmp_path):
    prefix = f"t{os.urandom(4).hex()}"
    monkeypatch.setattr(actors_worker, "Lanes", FakeLanes)
    settings = load_settings(None, {"RLM_REDIS__URL": valkey_only_url, "RLM_REDIS__PREFIX": prefix})
    store = Store(settings, valkey_only_url)
    running = Running(store, prefix)
    yield running
    running.lanes.ended.set()
    for key in store.client.keys(f"{prefix}*"):
        store.client.delete(key)
    store.client.close()


def test_it_has_its_lanes_and_leaves_nothing_behind(running):
    """In Redis there is its entry in the register and nothing else, and that is gone once it has left."""
    running.start()
    assert len(set(running.lanes.threads)) == running.store.settings.workers.threads
    assert running.left() == ["processes"]

    began = time.monotonic()
    running.leave()

    assert time.monotonic() - began < 1.0
    assert running.left() == []


def test_an_idle_worker_costs_its_heartbeats(running):
    """No lane, no consumer and no subscriber asks Redis for anything."""
    running.start()
    with make_client(running.store.url) as client:
        before = client.info("stats")["total_commands_processed"]
        time.sleep(WATCHED_SECONDS)
        assert client.info("stats")["total_commands_processed"] - before <= MOST_COMMANDS
    running.leave()


def test_a_lane_that_hears_that_a_run_is_over_has_it_closed(running, monkeypatch):
    """Though every lane is busy: the actor has a thread of its own."""
    close_run = mock.Mock(return_value=None)
    monkeypatch.setattr(record, "close_run", close_run)
    running.start()
    running.lanes.close("run-1")

    closed = [mock.call(running.store, "run-1")]
    wait_until(lambda: close_run.mock_calls == closed, timeout=1.0, message="it is closed")
    running.leave()


@pytest.mark.parametrize("end", [RuntimeError("a bug"), None])
def test_a_worker_whose_lane_has_ended_is_unfit(running, monkeypatch, end):
    """It would hold a place among the workers with a lane fewer; it ends, and is replaced."""
    ends = []
    monkeypatch.setattr(actors_worker.os, "_exit", ends.append)
    running.start()
    running.lanes.end = end
    running.lanes.ended.set()
    running.thread.join(5)

    assert ends == [UNFIT]


def test_a_call_that_does_not_end_is_cut_by_a_second_signal(running, monkeypatch):
    """And before that the worker waits, and says that it is stopping."""
    ends = []
    monkeypatch.setattr(actors_worker.os, "_exit", ends.append)
    running.lanes.gate.stop = lambda: None
    running.start()
    running.stop.graceful = True
    running.stop.wake()
    wait_until(lambda: running.states() == [WorkerState.STOPPING], message="it says that it is stopping")
    assert running.thread.is_alive()
    running.stop.immediate = True
    running.thread.join(5)

    assert ends == [UNFIT]


def test_a_worker_hides_the_secrets_of_its_settings(tmp_path, monkeypatch):
    """They were loaded by its supervisor, in another process."""
    password = "correct-horse-battery"  # a secret to be hidden
    settings = load_settings(None, {"RLM_REDIS__URL": f"redis://rlm:{password}@127.0.0.1:1/0"})
    remember(Secrets())
    words = []
    monkeypatch.setattr(actors_worker.telemetry, "set_up", lambda *_: words.append(mask(f"it is {password}")))
    monkeypatch.setattr(actors_worker, "setproctitle", words.append)

    with pytest.raises(StoreError):
        actors_worker.run_worker(settings, "here:1:abc")

    assert not any(password in each for each in words)
