"""A run by hand without a scheduler: the lease is released at the end, and a finished run is not a failure."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import contextmanager

import pytest

from rlm import telemetry
from rlm.cli import by_hand
from rlm.cli.by_hand import conduct_here
from rlm.cli.common import CommandError, ExitCode
from rlm.cli.starting import wait_for
from rlm.core.errors import FencedError, StoreError, StoreUnfitError, StoreUnreachableError
from rlm.core.run import State
from rlm.delivery.run_end import close_run
from rlm.ledger.processes import Process, Role
from rlm.processes.signals import StopSignals, Wakeup
from scheduler.conductor import Conductor
from scheduler.office import HandConductor
from scheduler.redis_watch import RedisWatch
from tests.store import steps
from tests.values import as_json


@pytest.fixture
def signals():
    """The signals of a command."""
    wakeup = Wakeup()
    with StopSignals(wakeup) as stop:
        yield stop
    wakeup.close()


def test_a_campaign_that_fails_leaves_no_lease_behind(store, signals, monkeypatch):
    """Redis refuses once the lease is taken: the next command need not wait until it runs out."""

    def refuse(*_):
        assert store.leases.holder() is not None
        raise StoreError("Redis refused a command")

    monkeypatch.setattr(telemetry, "set_up", lambda *_: None)
    monkeypatch.setattr(RedisWatch, "check", refuse)

    with pytest.raises(StoreError, match="refused a command"):
        conduct_here(store, signals, None, allow_volatile=False)

    assert store.leases.holder() is None


def test_no_run_is_begun_where_redis_would_lose_it(store, signals, monkeypatch):
    """It became unfit after the command had looked: it is said, and nothing waits."""
    monkeypatch.setattr(telemetry, "set_up", lambda *_: None)
    store.client.config_set("maxmemory", 2**40)
    store.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        conductor = HandConductor(store, signals)
        with pytest.raises(StoreUnfitError, match="noeviction"):
            conductor.campaign(1)
        conductor.resign()
    finally:
        store.client.config_set("maxmemory-policy", "noeviction")
        store.client.config_set("maxmemory", 0)

    assert store.runs.current() is None
    assert store.leases.holder() is None


def test_a_run_that_is_finished_is_told_of_though_another_conducts_by_then(make_store, tmp_path, signals, monkeypatch):
    """The lease is lost between the record and the tidying up: the record is what the command returns."""
    store = make_store(archive={"directory": str(tmp_path / "archive")})
    conduct = Conductor.conduct

    def conduct_and_be_deposed(self):
        record = conduct(self)
        store.client.lpush(store.keys.failed, *[json.dumps({"id": f"letter {number}"}) for number in range(3)])
        store.client.hset(store.keys.lease, "expires_us", 0)
        assert store.leases.acquire("another", 600)
        return record

    monkeypatch.setattr(Conductor, "conduct", conduct_and_be_deposed)
    monkeypatch.setattr("rlm.ledger.archive.MOST_LETTERS", 1)
    conductor = HandConductor(store, signals)
    conductor.campaign(1)
    record = conductor.conduct()
    conductor.resign()

    assert record.state == State.COMPLETED
    assert store.leases.holder() == "another"
    assert store.letters.count() == 3


def test_a_lease_that_cannot_be_given_up_is_no_failure(store, signals, monkeypatch, caplog):
    """Redis went away after the run: the lease runs out, and the command has done what it was to do."""
    caplog.set_level("INFO")

    def away(_):
        raise StoreUnreachableError("Redis cannot be reached")

    conductor = HandConductor(store, signals)
    conductor.campaign(1)
    monkeypatch.setattr(store.leases, "release", away)

    conductor.resign()

    assert "The lease runs out in 3 s" in caplog.text  # which is nothing to be looked at


@pytest.mark.parametrize("state", [State.RUNNING, State.FINISHING])
def test_a_run_that_is_ended_by_hand_is_closed_whatever_state_it_was_left_in(store, signals, running, state):
    """By a conductor that died while it looked, or after it had ended the run."""
    run = running(2)
    store.runs.cancel(run.id)
    store.client.hset(store.keys.lease, "expires_us", 0)
    conductor = HandConductor(store, signals)
    conductor.campaign(1)
    if state is State.FINISHING:
        steps.finish(store, conductor._leader.token, run)

    assert conductor.close_open("another") is None
    record = conductor.close_open(run.id)
    conductor.resign()

    assert (record.run_id, record.counts.leftover) == (run.id, 2)
    assert store.runs.current() is None
    assert conductor.close_open(run.id) is None


def test_who_is_interrupted_while_an_older_run_is_finished_begins_no_other(store, signals, monkeypatch):
    """It would be cancelled as it opens, with what waited taken into it."""
    monkeypatch.setattr(telemetry, "set_up", lambda *_: None)
    monkeypatch.setattr(HandConductor, "finish_open", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    store.processes.announce(Role.SUPERVISOR, Process(id="one that lives", pid=1, host="here", started_at=0.0))

    with pytest.raises(CommandError, match="Interrupted before a run was started") as caught:
        conduct_here(store, signals, None, allow_volatile=True)

    assert signals.graceful
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert (store.runs.current(), store.runs.count(), store.leases.holder()) == (None, 0, None)


def test_a_run_by_hand_begins_once_its_supervisor_is_there(store, signals, monkeypatch):
    """Else it finds nobody who starts workers, raises an alarm, and plans for none; the lease is kept meanwhile."""
    monkeypatch.setattr(telemetry, "set_up", lambda *_: None)
    found = []

    @contextmanager
    def coming_up(*_, **__):
        process = Process(id="its own", pid=1, host="here", started_at=0.0)
        later = threading.Timer(0.5, store.processes.announce, (Role.SUPERVISOR, process))
        later.start()
        yield None
        later.join()

    def finish_open(_):
        found.extend(store.processes.alive(Role.SUPERVISOR))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(by_hand, "own_supervisor", coming_up)
    monkeypatch.setattr(HandConductor, "finish_open", finish_open)

    with pytest.raises(CommandError):
        conduct_here(store, signals, None, allow_volatile=True)

    assert [one.id for one in found] == ["its own"]


def test_who_no_longer_waits_for_a_run_is_told_that_it_goes_on(store, running, signals):
    """That is no error, and yet not the end that was waited for."""
    os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(CommandError, match="goes on; `rlm status` shows it") as caught:
        wait_for(store, running(1).id, signals, None)

    assert caught.value.exit_code == ExitCode.INTERRUPTED


def test_a_run_that_another_process_closes_is_told_of(store, signals, monkeypatch):
    """It was overdue, this process having stood still; the command returns its record."""
    monkeypatch.setattr(telemetry, "set_up", lambda *_: None)
    store.processes.announce(Role.SUPERVISOR, Process(id="one that lives", pid=1, host="here", started_at=0.0))

    def stand_still(_self):
        store.client.hset(store.keys.run, "deadline_us", store.now_us() - 300_000)
        threading.Timer(0.1, close_run, (store, store.runs.current().id)).start()
        raise FencedError("deposed")

    monkeypatch.setattr(Conductor, "conduct", stand_still)

    record = conduct_here(store, signals, None, allow_volatile=True)

    assert as_json(record) == next(map(as_json, store.runs.recent(1)))
