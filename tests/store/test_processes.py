"""The living processes, the wanted workers, and the wake-up calls between processes."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from rlm.ledger import waker as waker_module
from rlm.ledger.connect import make_client
from rlm.ledger.embedded import EmbeddedServer
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.ledger.waker import Waker
from tests.conftest import SERVERS, running_server
from tests.store import steps
from tests.values import replace
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers

WORKER = Process("host:7:a", 7, "host", 1_700_000_000.25, WorkerState.READY, 5, "revision", "host:1:b")


class Calls:
    """A callback that counts its calls."""

    def __init__(self):
        self.number = 0

    def __call__(self):
        self.number += 1

    def wait_for(self, number):
        return wait_until(lambda: self.number >= number, message=f"{number} calls back")


@contextmanager
def listening(url, channel):
    """Let a waker listen; yield the count of its calls once it does."""
    calls = Calls()
    waker = Waker(url, channel, calls)
    waker.start()
    try:
        yield calls
    finally:
        waker.stop()


@pytest.fixture
def channel(store):
    """The channel that wakes this test's workers."""
    return store.keys.wake("workers")


@pytest.fixture(autouse=True)
def _quick_reconnection(monkeypatch):
    monkeypatch.setattr(waker_module, "_RECONNECT_SECONDS", 0.02)


@pytest.mark.parametrize("role", list(Role))
def test_a_process_that_is_heard_of_no_more_is_gone(store, role):
    """That it never signed off is known until somebody has cleaned up after it."""
    other = replace(WORKER, id="other")
    for process in (WORKER, other):
        store.processes.announce(role, process)
    steps.silence(store, role, WORKER.id)

    assert store.processes.alive(role) == [other]
    assert store.processes.missing(role) == [WORKER.id]
    store.processes.forget(role, WORKER.id)
    assert store.processes.missing(role) == []
    assert store.client.hkeys(store.keys.processes) == [f"{role} other".encode()]


@pytest.mark.parametrize("ahead", [-3_600_000_000, 3_600_000_000])
def test_after_a_step_of_the_clock_who_lives_is_heard_again_soon(store, ahead):
    """A moment that lies ahead is no better than one long ago: the dead would seem alive for an hour."""
    store.processes.announce(Role.WORKER, WORKER)
    field = f"{Role.WORKER} {WORKER.id}"
    at, _, entry = store.client.hget(store.keys.processes, field).partition(b" ")
    store.client.hset(store.keys.processes, field, b"%d %s" % (int(at) + ahead, entry))
    assert store.processes.missing(Role.WORKER) == [WORKER.id]

    store.processes.announce(Role.WORKER, WORKER)

    assert store.processes.alive(Role.WORKER) == [WORKER]


@pytest.mark.parametrize("kind", SERVERS)
def test_a_waker_listens_again_after_the_server_was_restarted(tmp_path, kind):
    """It waits for a server to come; after each start it calls back once for what was missed, then at every wake-up."""
    url = EmbeddedServer(tmp_path / "server").url

    with listening(url, "channel") as calls:
        for starts in (1, 2):
            with running_server(kind, tmp_path / "server") as again, make_client(again) as client:
                assert again == url
                calls.wait_for(2 * starts - 1)
                client.publish("channel", "wake")
                calls.wait_for(2 * starts)

        assert calls.number == 4
