"""When a worker announces itself: by a heartbeat, and repeatedly while Redis is away."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from actors import worker as actors_worker
from actors.worker import AGAIN_SECONDS, WorkerProcess
from rlm.core.errors import StoreError
from rlm.ledger.processes import HEARTBEAT_SECONDS, WorkerState
from rlm.processes.signals import Wakeup
from rlm.settings import load_settings
from tests.actors.lanes import FakeLanes
from tests.clocks import SetClock


@pytest.fixture
def announce():
    """The results of announcements: called with each entry, which it records."""
    return Mock()


@pytest.fixture
def worker(announce, monkeypatch):
    monkeypatch.setattr(actors_worker, "Lanes", FakeLanes)
    store = Mock(settings=load_settings(None, {}), url="redis://127.0.0.1:1/0", processes=Mock(announce=announce))
    stop = SimpleNamespace(graceful=False, immediate=False, wakeup=Wakeup())
    return WorkerProcess(store, "h:1:a:1", "h:1:a", None, stop)


def test_an_outage_is_one_line_however_often_it_tries(caplog, worker, announce):
    """With twenty workers it would be forty lines a second, and the scheduler's alarm would stand among them."""
    caplog.set_level(logging.INFO)
    announce.side_effect = StoreError("Redis is away")

    assert [worker._announce(WorkerState.READY) for _ in range(5)] == [False] * 5
    assert len(caplog.messages) == 1
    announce.side_effect = None
    assert worker._announce(WorkerState.READY)
    announce.side_effect = StoreError("Redis is away again")
    worker._announce(WorkerState.READY)
    assert [("again" in one) for one in caplog.messages] == [False, True]


def test_a_worker_announces_itself_by_a_heartbeat(worker, announce, monkeypatch):
    """A look in between that it was woken for says nothing."""
    monkeypatch.setattr(actors_worker, "system_clock", clock := SetClock(300 * HEARTBEAT_SECONDS))
    assert worker._keep_announced() == HEARTBEAT_SECONDS
    clock.sleep(1.0)
    assert worker._keep_announced() == pytest.approx(HEARTBEAT_SECONDS - 1.0)
    assert announce.call_count == 1

    clock.sleep(HEARTBEAT_SECONDS - 1.0)
    announce.side_effect = StoreError("Redis is away")
    assert worker._keep_announced() == AGAIN_SECONDS


def test_a_worker_that_falls_asleep_says_so_at_once(worker, announce, monkeypatch):
    """Otherwise it would be counted on for as long as a heartbeat."""
    monkeypatch.setattr(actors_worker, "system_clock", SetClock(300 * HEARTBEAT_SECONDS))
    worker._keep_announced()
    worker._lanes.sleeping = "nothing can be reached"
    worker._keep_announced()
    worker._keep_announced()

    assert [call.args[1].sleeping for call in announce.call_args_list] == ["", "nothing can be reached"]
