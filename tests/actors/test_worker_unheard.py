"""When a worker announces itself: more often with events in hand, and repeatedly while Redis is away."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from actors import worker as actors_worker
from actors.worker import AGAIN_SECONDS, WorkerProcess
from rlm.core.errors import StoreError
from rlm.ledger.processes import BRISK_SECONDS, HEARTBEAT_SECONDS, WorkerState
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


def test_a_worker_with_events_in_hand_announces_itself_more_often(worker, announce, monkeypatch):
    """It says how soon, and a look in between that it was woken for says nothing."""
    monkeypatch.setattr(actors_worker, "system_clock", clock := SetClock(300 * HEARTBEAT_SECONDS))
    assert worker._keep_announced() == HEARTBEAT_SECONDS
    clock.sleep(BRISK_SECONDS + 0.1)
    assert worker._keep_announced() == pytest.approx(HEARTBEAT_SECONDS - BRISK_SECONDS - 0.1)

    monkeypatch.setattr(worker._lanes, "rest", lambda: False)
    assert [worker._keep_announced() for _ in range(3)] == [BRISK_SECONDS] * 3
    clock.sleep(BRISK_SECONDS)
    announce.side_effect = StoreError("Redis is away")
    assert worker._keep_announced() == AGAIN_SECONDS

    assert [call.args[1].every for call in announce.call_args_list] == [HEARTBEAT_SECONDS, *[BRISK_SECONDS] * 2]


def test_a_worker_that_has_gone_idle_is_not_taken_for_silent(worker, announce, monkeypatch):
    """It announces itself as soon as it said that it would, and only then says that it does so less often."""
    monkeypatch.setattr(actors_worker, "system_clock", clock := SetClock(300 * HEARTBEAT_SECONDS))
    monkeypatch.setattr(worker._lanes, "rest", lambda: False)
    worker._keep_announced()

    monkeypatch.setattr(worker._lanes, "rest", lambda: True)
    clock.sleep(BRISK_SECONDS / 4)
    assert worker._keep_announced() == pytest.approx(BRISK_SECONDS * 3 / 4)
    clock.sleep(BRISK_SECONDS * 3 / 4)
    worker._keep_announced()

    assert [call.args[1].every for call in announce.call_args_list] == [BRISK_SECONDS, HEARTBEAT_SECONDS]


def test_a_worker_that_falls_asleep_says_so_at_once(worker, announce, monkeypatch):
    """Otherwise it would be counted on for as long as a heartbeat."""
    monkeypatch.setattr(actors_worker, "system_clock", SetClock(300 * HEARTBEAT_SECONDS))
    worker._keep_announced()
    worker._lanes.sleeping = "nothing can be reached"
    worker._keep_announced()
    worker._keep_announced()

    assert [call.args[1].sleeping for call in announce.call_args_list] == ["", "nothing can be reached"]
