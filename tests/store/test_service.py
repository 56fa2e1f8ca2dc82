"""The scheduler's service: what is to be done after a run is done, also where Redis failed while it was closed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm import closing, telemetry
from rlm.errors import FencedError, StoreError
from rlm.run import Trigger
from rlm.signals import Wakeup
from scheduler.service import SchedulerService
from scheduler.tick import open_run
from tests.store import steps

DUE = 1_800_000_000.0


@pytest.fixture
def service(store, monkeypatch):
    """A service that is never told to stop, and never waits."""
    monkeypatch.setattr("scheduler.service.IDLE_SECONDS", 0.0)
    monkeypatch.setattr("scheduler.service.AWAY_SECONDS", 0.0)
    wakeup = Wakeup()
    made = SchedulerService(store, store.settings, wakeup, SimpleNamespace(graceful=False, immediate=False))
    yield made
    made._leader.resign()
    wakeup.close()


@pytest.fixture
def seen_to(service, monkeypatch):
    """What was told of the tick, and which records were looked over."""
    told, looked_over = [], []
    monkeypatch.setattr(telemetry, "tick_ended", lambda _settings, due, *, ok: told.append((due, ok)))
    monkeypatch.setattr(service._housekeeper, "after_run", lambda record: looked_over.append(record["run_id"]))
    return told, looked_over


def closed_and_lost(store, service, error):
    """Open the run of a tick; whoever conducts it closes it, and does not hear so."""
    assert service._leader.campaign()
    run_id = open_run(store, service._leader.token, Trigger.SCHEDULE, DUE)

    def conduct(run):
        steps.finish(store, service._leader.token, run)
        assert closing.close_run(store, run.id)
        raise error

    service._conductor.conduct = conduct
    return run_id


def test_a_run_whose_closing_was_not_heard_of_is_seen_to_when_redis_is_back(store, service, seen_to):
    """Its check-in would else time out at Sentry, and nobody would look whether limits were kept: once, not again."""
    run_id = closed_and_lost(store, service, StoreError("the answer was lost"))

    for _ in range(3):
        service._turn()

    assert seen_to == ([(DUE, True)], [run_id])


def test_a_run_that_another_took_over_is_left_to_it(store, service, seen_to):
    """Who has lost the lease has lost the run with it."""
    closed_and_lost(store, service, FencedError("another conducts"))

    for _ in range(2):
        service._turn()

    told, looked_over = seen_to
    assert DUE not in dict(told)
    assert looked_over == []
