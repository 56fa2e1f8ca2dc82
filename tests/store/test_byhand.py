"""A run by hand without a scheduler: the lease is released at the end, and a finished run is not a failure."""

from __future__ import annotations

import os
import signal

import pytest

from rlm import telemetry
from rlm.admin.errors import InterruptedByHandError
from rlm.cli.runs import conduct_here
from rlm.core.errors import StoreUnfitError
from rlm.ledger.processes import Process, Role
from rlm.processes.signals import StopSignals
from scheduler.conductor import Conductor
from scheduler.office import Office
from tests.store import steps


@pytest.fixture
def signals():
    """The signals of a command."""
    with StopSignals() as stop:
        yield stop


def test_no_run_is_begun_where_redis_would_lose_it(store, signals):
    """It became unfit after the command had looked: it is said, and nothing waits."""
    store.client.config_set("maxmemory", 2**40)
    store.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        office = Office(store, signals)
        with pytest.raises(StoreUnfitError, match="noeviction"):
            office.take(1)
        office.resign()
    finally:
        store.client.config_set("maxmemory-policy", "noeviction")
        store.client.config_set("maxmemory", 0)

    assert store.runs.current() is None
    assert store.leases.read().holder is None


def test_who_is_interrupted_while_an_older_run_is_finished_begins_no_other(store, token, running, signals, monkeypatch):
    """It would be cancelled as it opens, with what waited taken into it."""
    run = running(0)
    store.leases.release(steps.CONDUCTOR)
    monkeypatch.setattr(telemetry, "set_up", lambda *_: None)
    monkeypatch.setattr(Conductor, "conduct", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    store.processes.announce(Role.SUPERVISOR, Process(id="one that lives", pid=1, host="here", started_at=0.0))

    with pytest.raises(InterruptedByHandError, match="Interrupted before a run was started") as caught:
        conduct_here(store, signals, allow_volatile=True)

    assert signals.graceful
    assert caught.value.exit_code == 130
    assert (store.runs.current().id, store.runs.history(), store.leases.read().holder) == (run.id, [], None)
