"""The scheduler's service: what is to be done after a run is done, also where Redis failed while it was closed."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from types import SimpleNamespace
from unittest import mock

import pytest
from msgspec import structs

from rlm import telemetry
from rlm.admin import report
from rlm.core.clock import system_clock
from rlm.core.endpoint import Limit
from rlm.core.errors import FencedError, StoreError
from rlm.core.run import State, Trigger
from rlm.delivery import run_end
from rlm.ledger import Store
from rlm.ledger.clock_of_redis import RedisClock
from rlm.ledger.processes import Process, Role
from rlm.processes.signals import Wakeup
from scheduler.conductor import Conductor
from scheduler.service import SchedulerService
from scheduler.ticks import last_due, open_run
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


@pytest.mark.rest
def test_a_run_whose_closing_was_not_heard_of_is_seen_to_when_redis_is_back(store, service, seen_to, monkeypatch):
    """Its check-in would else time out at Sentry, and nobody would look whether limits were kept: once, not again."""
    run_id = closed_and_lost(store, service, StoreError("the answer was lost"), monkeypatch)

    for _ in range(3):
        turn(service)

    told, looked_over = seen_to
    assert [one for one in told if one[0] == DUE] == [(DUE, True)]  # a tick of this minute may come in between
    assert looked_over == [run_id]


@pytest.mark.rest
def test_a_run_whose_conductor_died_as_it_was_closed_is_seen_to_by_its_successor(store, token, service, monkeypatch):
    """The end-of-run actor closed it, so none is open: what follows a run is done once, by whoever leads next."""
    monkeypatch.setattr("scheduler.housekeeping.CLOSER_SECONDS", 0.0)
    looked_over, told = [], []
    look_over = run_end.look_over
    monkeypatch.setattr(telemetry, "tick_ended", lambda _settings, due, **_: told.append(due))
    monkeypatch.setattr(
        "scheduler.housekeeping.look_over",
        lambda store, record: looked_over.append(record.run_id) or look_over(store, record),
    )
    every = store.settings.run.every_seconds
    tick = last_due(store.now(), every) - every
    run_id = open_run(store, token, Trigger.SCHEDULE, tick)
    steps.finish(store, token, store.runs.current())
    assert run_end.close_run(store, run_id)
    store.leases.release(steps.CONDUCTOR)

    for _ in range(3):
        turn(service)

    assert looked_over == [run_id]
    assert told.count(tick) == 1
    service._leader.resign()
    turn(service)
    assert looked_over == [run_id], "the next one to lead knows that it is done"


@pytest.fixture
def alone(service, monkeypatch):
    """A service for which no run is due: the ticks that it reports, and the runs that it looks over."""
    told, looked_over = [], []
    monkeypatch.setattr(telemetry, "tick_ended", lambda _settings, due, **_: told.append(due))
    monkeypatch.setattr("scheduler.housekeeping.look_over", lambda _store, record: looked_over.append(record.run_id))
    monkeypatch.setattr(service, "_start_due", lambda: False)
    return told, looked_over


def closed_by_the_dead(store, token):
    """Open the run of a tick, and close it as an actor that dies before it reports anything; return its id."""
    run_id = open_run(store, token, Trigger.SCHEDULE, store.now() - store.settings.run.window_seconds - 1.0)
    assert run_end.close_run(store, run_id)
    store.leases.release(steps.CONDUCTOR)
    return run_id


@pytest.mark.rest
def test_a_run_whose_closer_died_is_seen_to_once_that_is_certain(store, token, service, alone, monkeypatch):
    """Until then its closer may be at it, and each alarm would be raised twice."""
    told, looked_over = alone
    run_id = closed_by_the_dead(store, token)
    monkeypatch.setattr("scheduler.housekeeping.CLOSER_SECONDS", 3600.0)
    turn(service)
    assert (told, looked_over) == ([], [])

    monkeypatch.setattr("scheduler.housekeeping.CLOSER_SECONDS", 0.0)
    for _ in range(3):
        turn(service)

    assert looked_over == [run_id]
    assert len(told) == 1


def test_a_run_that_another_took_over_is_left_to_it(store, service, seen_to, monkeypatch):
    """Who has lost the lease has lost the run with it."""
    closed_and_lost(store, service, FencedError("another conducts"), monkeypatch)

    turn(service)
    store.leases.release(service._leader.owner)
    store.leases.acquire("another", 600)
    turn(service)

    told, looked_over = seen_to
    assert DUE not in dict(told)
    assert looked_over == []


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


def test_a_tick_of_before_is_looked_for_until_redis_has_told_of_it(service, store, at, monkeypatch):
    """The lease is taken and Redis fails right then: the tick that came while nobody conducted is served anyway."""
    every = store.settings.run.every_seconds
    store.schedule.note_tick(DUE - every)
    at(DUE + 7)
    last_tick, failures = store.schedule.last_tick, iter([StoreError("Redis failed")])

    def fail_once():
        for failure in failures:
            raise failure
        return last_tick()

    monkeypatch.setattr(store.schedule, "last_tick", fail_once)
    service._taken = DUE

    turn(service)
    assert service._leader.token
    assert last_tick() == DUE - every
    turn(service)

    assert last_tick() == DUE + 7


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


@pytest.mark.parametrize("ahead_seconds", [300.0, -300.0])
def test_times_of_a_run_are_those_of_redis(service, store, monkeypatch, ahead_seconds):
    """Whatever the clocks of the hosts say that open, look at and close it: 300 s ahead or behind."""
    # Given a host whose clock is off, and a run that it opens for a tick of a second ago
    real = type(system_clock).now
    monkeypatch.setattr(type(system_clock), "now", lambda clock: real(clock) + ahead_seconds)
    assert service._leader.campaign()
    tick = service._store.clock.now() - 1
    run_id = open_run(store, service._leader.token, Trigger.SCHEDULE, tick)
    run = store.runs.current()

    # When somebody looks at it there, and it is closed
    now = store.now()
    seen = report.status(store, run_id)
    steps.finish(store, service._leader.token, run)
    record = run_end.close_run(store, run_id)

    # Then all its times are by the clock of Redis, its tick's too
    assert run.tick == tick
    assert seconds(record.started_at) == pytest.approx(now - 1, abs=1)
    assert seconds(record.deadline) == pytest.approx(now - 1 + run.window_seconds, abs=1)
    assert seconds(seen.as_of) == pytest.approx(now, abs=1)
    assert seconds(record.finished_at) == pytest.approx(now, abs=1)
    assert record.duration_seconds == pytest.approx(1, abs=1)
    assert seen.seconds_left == pytest.approx(run.window_seconds - 1, abs=1)


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


def test_a_run_that_a_standby_takes_over_is_left_to_it(service, store, monkeypatch):
    """Whoever is to stop gives the lease up, waits until the other has it, and leaves the run as it is."""
    store.processes.announce(Role.SCHEDULER, Process(id="standby", pid=1, host="there", started_at=0.0))
    assert service._leader.campaign()
    run_id = open_run(store, service._leader.token, Trigger.MANUAL, system_clock.now())
    service._duty._stop.graceful = True
    monkeypatch.setattr(store.processes, "wake", lambda _whom: store.leases.acquire("standby", 600))

    service._sign_off()

    assert store.runs.current().id == run_id
    assert store.leases.holder() == "standby"


def test_a_drain_is_handed_over_in_its_middle(service, store, monkeypatch):
    """What is staged is drained by the standby, in the same run: by the next one it would come a window late."""
    monkeypatch.setattr("rlm.ledger.intake.CHUNK_ITEMS", 1)
    store.processes.announce(Role.SCHEDULER, Process(id="standby", pid=1, host="there", started_at=0.0))
    steps.push(store, *steps.items(3, steps.TYPE))
    assert service._leader.campaign()
    open_run(store, service._leader.token, Trigger.MANUAL, system_clock.now())
    monkeypatch.setattr(service._duty, "serve", lambda _run: setattr(service._duty._stop, "graceful", True))

    turn(service)

    assert store.runs.current().state == State.DRAINING
    assert (store.ledger.count([steps.TYPE])[steps.TYPE].pending, store.intake.waiting()) == (1, 2)


@pytest.mark.rest
def test_who_takes_over_closes_a_run_that_is_overdue(service, store, token):
    """The one that led is dead, and no lane lives."""
    store.schedule.note_tick(store.now())
    run_id = open_run(store, token, Trigger.SCHEDULE, store.now() - store.settings.run.window_seconds - 1.0)
    turn(service)
    assert store.runs.is_open(run_id)

    store.leases.release(steps.CONDUCTOR)
    turn(service)

    assert store.runs.record(run_id).counts.leftover == 0


def test_the_job_conducts_the_run_of_its_tick(service, store, at, seen_to):
    """By the clock of Redis: if APScheduler calls it too early, it sleeps out the rest; it serves a tick once."""
    at(DUE - 0.2)
    store.schedule.note_tick(DUE - 180)
    turn(service)
    push(store)
    service._taken, slept = last_due(DUE - 0.2, 180), []
    service._stopped.wait = lambda seconds: (slept.append(seconds), at(DUE + 0.01))[0]

    service.job()
    service.job()

    assert slept == [pytest.approx(0.2)]
    assert store.schedule.last_tick() == DUE + 0.01
    (record,) = store.runs.recent(5)
    assert seen_to[1] == [record.run_id]


@pytest.mark.rest
def test_a_changed_file_is_in_force_from_the_restart_on(store, token, service):
    """Not only from the next run on: the plan, the list of endpoints and the metrics go by what is published."""
    # Given a limit that an earlier file had, and another that was set by hand under that file
    former = {name: replace(one, limit=Limit.parse("9/minute")) for name, one in store.settings.endpoints.items()}
    with closing(Store(replace(store.settings, endpoints=former), store.url)) as before:
        before.publish_limits(token)
        before.control.limit(former[steps.ENDPOINT], "2/minute", "user@host")
    store.leases.release(steps.CONDUCTOR)

    # When a scheduler with the changed file leads, and nothing is to be done
    turn(service)

    # Then the file's limits are in force
    assert store.endpoints() == store.settings.endpoints
    # And one set by hand holds when that scheduler takes office again
    store.control.limit(store.settings.endpoints[steps.ENDPOINT], "7/minute", "user@host")
    service._leader.resign()
    turn(service)
    assert store.limits()[steps.ENDPOINT] == "7/minute"
