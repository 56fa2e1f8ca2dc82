"""The scheduler's service: which tick is served, and when; a run counts from it."""

from __future__ import annotations

import pytest
from msgspec import structs

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.run import Trigger, new_run
from rlm.ledger.values import RedisClock
from rlm.processes.signals import StopSignals
from scheduler.conductor import Conductor
from scheduler.office import Office
from scheduler.service import SchedulerService
from tests.store import steps
from tests.values import replace

DUE = 1_800_000_000.0


@pytest.fixture
def service(store, monkeypatch):
    """A service that is never told to stop, and never waits."""
    monkeypatch.setattr("scheduler.service.AWAY_SECONDS", 0.0)
    with StopSignals() as stop:
        made = SchedulerService(store, stop, allow_volatile=True)
        yield made
        made._office.resign()


@pytest.fixture
def at(monkeypatch):
    """Set the clock of this host, and that of Redis as a scheduler sees it, to a moment: `at(DUE)`."""

    def set_to(moment):
        monkeypatch.setattr(type(system_clock), "now", lambda _self: moment)
        monkeypatch.setattr(RedisClock, "now", lambda _self: moment)

    return set_to


def push(store):
    """Have something to do that takes no worker: an item that is none."""
    store.intake.push([b"{"])


def test_a_tick_at_which_redis_fails_is_served_later_and_once(service, store, at, monkeypatch):
    store.schedule.note_tick(DUE - store.settings.run.every_seconds)
    push(store)
    at(DUE + 1)
    with monkeypatch.context() as failing:
        failing.setattr(store.intake, "lengths", lambda: (_ for _ in ()).throw(StoreError("away")))
        service.job()
    assert len(store.runs.history()) == 0

    service.job()
    push(store)
    service.job()

    assert len(store.runs.history()) == 1
    assert sum(store.intake.lengths()) == 1


@pytest.mark.parametrize(("answer_seconds", "lasts"), [(0.0, 3), (0.16, 19.2), (0.3, 30)])
def test_a_lease_lasts_for_a_look_at_a_redis_that_is_far_away(store, monkeypatch, answer_seconds, lasts):
    """At one that is near it ends soon after its holder dies. No stand-by cuts it short."""
    moment, contend, asked = [0.0], store.leases.contend, []

    def contend_slowly(owner, seconds):
        asked.append(seconds)
        moment[0] += answer_seconds
        return contend(owner, seconds)

    monkeypatch.setattr(store.leases, "contend", contend_slowly)
    monkeypatch.setattr(type(system_clock), "monotonic", lambda _self: moment[0])
    leader, standby = (Office(store, None, allow_volatile=True) for _ in range(2))

    assert leader.campaign()
    assert not standby.campaign()

    assert asked == pytest.approx([30, lasts, 30])
    assert store.leases.read().left_seconds == pytest.approx(lasts, abs=1)


class Stopping:
    """The signals of a process that is told to stop just after it has looked for the first time."""

    immediate, looked = False, False

    def wait(self, _seconds):
        """Do not wait."""

    @property
    def graceful(self):
        looked, self.looked = self.looked, True
        return looked


def test_a_scheduler_told_to_stop_in_mid_look_leaves_its_run_open(store, running):
    """Lanes go on with it: nothing is cancelled."""
    run = running(2)
    store.leases.release(steps.CONDUCTOR)
    office = Office(store, Stopping(), allow_volatile=True)
    assert office.campaign()

    Conductor(office, run).await_end()
    office.resign()

    left_open = store.runs.current()
    assert (left_open.id, left_open.cancelled) == (run.id, False)


def test_while_nothing_changes_a_conductor_only_counts(store, office, monkeypatch):
    """It sees all again when an operator has changed something."""
    steps.push(store, *steps.items(2, steps.TYPE))
    run = steps.start_run(store, office.token, window_seconds=60)
    primary = store.settings.endpoints[steps.ENDPOINT]
    look, seen, looks = Conductor.look, [], []

    def noted(*args, **more):
        found = look(*args, **more)
        seen.append(found.windows[primary.name].paused_seconds > 0)
        return found

    def step():
        looks.append([*seen])
        if len(looks) == 3:
            store.rules.pause(primary, "ops@here")
        if len(looks) == 6:
            store.runs.cancel(run.id)

    monkeypatch.setattr("scheduler.conductor.LOOK_SECONDS", 0.02)
    monkeypatch.setattr(Conductor, "look", noted)
    monkeypatch.setattr(office, "keep", step)

    Conductor(office, run).await_end()

    assert looks[5] == [False, True]


@pytest.mark.rest
def test_ticks_go_on_when_the_clock_is_set_back(service, store, at):
    """By an hour: APScheduler notes the next one in an hour, and nothing would be done until then."""
    store.schedule.note_tick(DUE)
    at(DUE - 3600 + 1)
    push(store)

    service.job()

    record = next(iter(store.runs.recent(1)))
    assert record.trigger == Trigger.SCHEDULE
    assert store.leases.read().ticked_at == DUE - 3600


@pytest.mark.parametrize("ahead_seconds", [30.0, -30.0])
def test_a_tick_is_served_once_by_hosts_whose_clocks_differ(service, store, monkeypatch, ahead_seconds):
    """Nor before it is due: whoever takes over goes by the clock of Redis."""
    every = store.settings.run.every_seconds
    real, now = type(system_clock).now, store.now()
    store.schedule.note_tick(now // every * every)
    push(store)
    monkeypatch.setattr(type(system_clock), "now", lambda clock: real(clock) + ahead_seconds)

    service.job()
    if store.now() // every == now // every:  # no tick came meanwhile
        assert len(store.runs.history()) == 0


def test_a_tick_whose_window_is_over_opens_no_run(service, store, at, monkeypatch, caplog):
    """The run would be closed as it opens, with all left over: what waits is the next tick's."""
    short = replace(store.settings, run=structs.replace(store.settings.run, window_seconds=60.0))
    monkeypatch.setattr(store, "settings", short)
    store.schedule.note_tick(DUE - short.run.every_seconds)
    at(DUE + 61)
    push(store)

    service.job()

    assert "Ticks were missed" in caplog.text
    assert store.leases.read().ticked_at == DUE
    assert len(store.runs.history()) == 0
    assert sum(store.intake.lengths()) == 1


def test_a_tick_without_work_wants_no_more_workers_than_the_fewest(service, store, at):
    """Those that leftovers needed leave, although they were dropped."""
    store.schedule.note_tick(DUE - store.settings.run.every_seconds)
    store.client.hset(store.keys.processes, "wanted", 7)
    at(DUE + 1)

    service.job()

    assert store.processes.register().wanted == store.settings.workers.min


def opened(store, token, trigger, tick, request=""):
    """Open a run; return the id of the one that is open then."""
    run = new_run(trigger, tick, store.settings.run.window_seconds, store.settings.revision)
    return store.runs.open(token, run, store.ledger.types(), request)


def test_the_tick_of_a_run_is_noted_as_it_opens(store, token):
    """Its leader may die just then: what comes after the run is the next tick's."""
    opened(store, token, Trigger.SCHEDULE, DUE)

    assert store.leases.read().ticked_at == DUE


def test_a_run_counts_from_its_tick_however_late_it_opens(store, token):
    """Its deadline is a window after that, by the clock of this host as by that of Redis."""
    window_seconds, tick = store.settings.run.window_seconds, system_clock.now() - 7.0

    run_id = opened(store, token, Trigger.SCHEDULE, tick)

    run = store.runs.current()
    assert (run.id, run.started_at, run.deadline) == (run_id, tick, tick + window_seconds)
    left_seconds = (run.deadline_us - store.now_us()) / 1_000_000
    assert window_seconds - 9.0 < left_seconds <= window_seconds - 7.0 + 0.01


def test_a_request_is_answered_by_the_step_that_opens_its_run(store, token):
    """Its conductor may die right after it; and what nobody waits for any more opens no run."""
    request, withdrawn = store.schedule.request(), store.schedule.request()
    store.schedule.withdraw(withdrawn)

    assert opened(store, token, Trigger.MANUAL, store.now(), withdrawn) == ""
    assert store.runs.current() is None
    run_id = opened(store, token, Trigger.MANUAL, store.now(), request)

    assert store.runs.current().id == run_id
    assert store.schedule.reply(request).run_id == run_id
    assert store.schedule.next_request() is None
