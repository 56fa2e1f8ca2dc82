"""The scheduler's service: what is to be done after a run is done, also where Redis failed while it was closed."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from unittest import mock

import pytest
from msgspec import structs

from rlm import telemetry
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, StoreError
from rlm.core.run import Trigger
from rlm.delivery import run_end
from rlm.ledger.clock_of_redis import RedisClock
from rlm.processes.signals import Wakeup
from scheduler.conductor import Conductor
from scheduler.service import SchedulerService
from scheduler.ticks import open_run
from tests.store import steps
from tests.values import replace

DUE = 1_800_000_000.0


@pytest.fixture
def service(store, monkeypatch):
    """A service that is never told to stop, and never waits."""
    monkeypatch.setattr("scheduler.service.IDLE_SECONDS", 0.0)
    monkeypatch.setattr("scheduler.service.AWAY_SECONDS", 0.0)
    wakeup = Wakeup()
    made = SchedulerService(store, SimpleNamespace(graceful=False, immediate=False, wakeup=wakeup))
    yield made
    made._leader.resign()
    wakeup.close()


def turn(service):
    """Let the main thread of a service take a turn."""
    with service._work():
        service._turn()


@pytest.fixture
def seen_to(service, monkeypatch):
    """What was told of the tick, and which records were looked over."""
    told, looked_over = [], []
    monkeypatch.setattr(telemetry, "tick_ended", lambda _settings, due, *, ok, seconds: told.append((due, ok)))
    monkeypatch.setattr(service._housekeeper, "after_run", lambda record: record and looked_over.append(record.run_id))
    return told, looked_over


def closed_and_lost(store, service, error, monkeypatch):
    """Open the run of a tick; whoever conducts it closes it, and does not hear so."""
    assert service._leader.campaign()
    run_id = open_run(store, service._leader.token, Trigger.SCHEDULE, DUE)

    def conduct(_self):
        steps.finish(store, service._leader.token, store.runs.current())
        assert run_end.close_run(store, run_id)
        raise error

    monkeypatch.setattr(Conductor, "conduct", conduct)
    return run_id


def seconds(moment):
    """Read a time of a record, seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()


@pytest.fixture
def at(monkeypatch):
    """Set the clock of this host, and that of Redis as a scheduler sees it, to a moment: `at(DUE)`."""

    def set_to(moment):
        monkeypatch.setattr(type(system_clock), "now", lambda _self: moment)
        monkeypatch.setattr(RedisClock, "at", lambda _self, _moment: moment)

    return set_to


def test_each_tick_is_taken_once(service, store, at, monkeypatch):
    """Whether the clock goes on or is set back: the last one is another than before. One that failed comes again."""
    served = []
    monkeypatch.setattr(
        "scheduler.service.serve_tick", lambda _store, _token, now, **_: served.append(now // 180 * 180)
    )
    at(360.0)
    service._taken = 360.0

    def take(moment):
        at(moment)
        return service._start_due()

    assert not any(take(one) for one in (360.0, 540.0, 540.5, 180.0, 181.0, 360.0))  # nothing was to be done
    assert served == [540.0, 180.0, 360.0]
    failing = mock.Mock(side_effect=[StoreError("away"), None])
    monkeypatch.setattr("scheduler.service.serve_tick", failing)
    with pytest.raises(StoreError):
        take(540.0)
    assert not any(take(540.0) for _ in range(2))
    assert failing.call_count == 2


@pytest.mark.rest
def test_ticks_go_on_when_the_clock_is_set_back(service, store, at, seen_to):
    """By an hour: APScheduler notes the next one in an hour, and nothing would be done until then."""
    at(DUE)
    turn(service)
    store.schedule.note_tick(DUE)
    at(DUE - 3600 + 1)
    push(store)

    turn(service)

    record = next(iter(store.runs.recent(1)))
    assert record.trigger == Trigger.SCHEDULE
    assert store.schedule.last_tick() == DUE - 3600 + 1


@pytest.mark.parametrize("ahead_seconds", [30.0, -30.0])
def test_a_tick_is_served_once_by_hosts_whose_clocks_differ(service, store, monkeypatch, ahead_seconds):
    """Nor before it is due: whoever takes over goes by the clock of Redis."""
    every = store.settings.run.every_seconds
    real, now = type(system_clock).now, store.now()
    store.schedule.note_tick(now // every * every)
    push(store)
    monkeypatch.setattr(type(system_clock), "now", lambda clock: real(clock) + ahead_seconds)

    turn(service)
    if store.now() // every == now // every:  # no tick came meanwhile
        assert store.runs.count() == 0


def test_a_tick_whose_window_is_over_opens_no_run(service, store, at, monkeypatch, caplog):
    """The run would be closed as it opens, with all left over: what waits is the next tick's."""
    short = replace(store.settings, run=structs.replace(store.settings.run, window_seconds=60.0))
    monkeypatch.setattr(store, "settings", short)
    store.schedule.note_tick(DUE - short.run.every_seconds)
    at(DUE + 61)
    push(store)

    turn(service)

    assert "Ticks were missed" in caplog.text
    assert store.schedule.last_tick() == DUE + 61
    assert store.runs.count() == 0
    assert store.intake.waiting() == 1


def test_the_tick_of_a_run_that_was_left_open_is_not_served_again(service, store, at, monkeypatch):
    """Its leader died before it noted the tick: what comes after the run is the next tick's."""
    at(DUE + 1)
    store.schedule.note_tick(DUE - store.settings.run.every_seconds)
    closed_and_lost(store, service, FencedError("closed by another"), monkeypatch)

    turn(service)
    push(store)
    turn(service)

    assert store.schedule.last_tick() == DUE
    assert store.runs.count() == 1
    assert store.intake.waiting() == 1


def push(store):
    """Have something to do that takes no worker: an item that is none."""
    store.intake.push([b"{"])
