"""What a worker logs while Redis is away: it announces itself again and again, and speaks of that once."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from unittest.mock import Mock

from actors.worker import WorkerProcess
from rlm.core.errors import StoreError
from rlm.ledger.processes import WorkerState
from rlm.processes.signals import Wakeup
from rlm.settings import load_settings


def test_an_outage_is_one_line_however_often_it_tries(caplog):
    """With twenty workers it would be forty lines a second, and the scheduler's alarm would stand among them."""
    caplog.set_level(logging.INFO)
    announce = Mock(side_effect=StoreError("Redis is away"))
    store = Mock(settings=load_settings(None, {}), url="redis://127.0.0.1:1/0", processes=Mock(announce=announce))
    stop = SimpleNamespace(graceful=False, immediate=False, wakeup=Wakeup())
    worker = WorkerProcess(store, "h:1:a:1", "h:1:a", None, stop)

    assert [worker._announce(WorkerState.READY) for _ in range(5)] == [False] * 5
    assert len(caplog.messages) == 1
    announce.side_effect = None
    assert worker._announce(WorkerState.READY)
    announce.side_effect = StoreError("Redis is away again")
    worker._announce(WorkerState.READY)
    assert [("again" in one) for one in caplog.messages] == [False, True]
