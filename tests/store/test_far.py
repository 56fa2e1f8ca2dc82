"""A Redis in another place, 50 ms each way: a run is closed within a second of its deadline there too."""

from __future__ import annotations

from datetime import datetime

import pytest
from msgspec import structs

from rlm.ledger import Store
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.ledger.scripts import SOURCES
from rlm.processes.signals import StopSignals, Wakeup
from scheduler.conductor import Conductor
from scheduler.office import HandConductor
from tests.faults.proxy import Proxy
from tests.store import steps
from tests.values import replace

pytestmark = pytest.mark.long

FAR_SECONDS = 0.05
LATE_SECONDS = 1.0


@pytest.fixture
def line(settings):
    """A connection to the server that can be delayed."""
    with Proxy(settings.redis.url.removeprefix("unix://")) as proxy:
        yield proxy


@pytest.fixture
def conductor(store, line):
    """A conductor at the other end of the connection, with the lease; the server knows all scripts."""
    for source in SOURCES.values():
        store.client.script_load(source)
    url, wakeup = f"redis://127.0.0.1:{line.port}/0", Wakeup()
    there = Store(replace(store.settings, redis=structs.replace(store.settings.redis, url=url)), url)
    with StopSignals(wakeup) as stop:
        made = HandConductor(there, stop, allow_volatile=True)
        made.campaign(5)
        yield made
        made.resign()
    wakeup.close()
    there.close()


def test_a_run_is_closed_in_time(store, line, conductor):
    """With events of five types, for which there are twenty endpoints; they wait until its end."""
    token, settings = conductor._leader.token, store.settings
    worker = Process("w:1:1", 1, "w", 0.0, WorkerState.READY, 5, settings.revision, "w:1")
    store.processes.announce(Role.WORKER, worker)
    steps.push(store, *steps.items(20, *(one.name for one in settings.event_types)))
    run = steps.start_run(store, token, window_seconds=9.0)
    line.delay_seconds = FAR_SECONDS

    record = Conductor(conductor._desk, run).conduct()

    late = store.now() - datetime.fromisoformat(record.deadline).timestamp()
    line.delay_seconds = 0.0
    print(f"closed {late:.2f} s late")
    assert record.counts.leftover == 100
    assert late < LATE_SECONDS
