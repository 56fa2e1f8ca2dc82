"""A turn of the release loop: what it sends, when it first does, whom it waits for, and what counts as begun."""

from __future__ import annotations

import json
from unittest.mock import Mock

import pytest

from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, StoreError
from rlm.ledger.claims import Admitted
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.plan.waits import Obstacle, Wait
from scheduler import release_loop, releases
from tests.store import looks, steps, windows
from tests.store.ways import fail
from tests.wait import wait_until

LANES = 5


@pytest.fixture
def start(store, conductor):
    """Start a run with `number` events of a type, and its release loop: `start(7)`."""

    def begin(number):
        steps.push(store, *steps.items(number, steps.TYPE))
        run = steps.start_run(store, conductor._leader.token)
        return steps.release_loop(store, conductor, run)

    return begin


def announce(store, worker_id, **facts):
    revision = store.settings.revision
    process = Process(worker_id, 1, "h", system_clock.now(), WorkerState.READY, LANES, revision, **facts)
    store.processes.announce(Role.WORKER, process)


def messages(store):
    """How many messages are in the broker's queue."""
    return store.client.llen(f"{store.keys.dramatiq}:rlm")


def test_as_many_are_sent_as_there_are_lanes_and_it_is_noted_when_the_first_were(store, start):
    """Whoever takes the run over knows since when it is under way; a later turn changes nothing of that."""
    loop = start(7)
    announce(store, "w1")
    before = system_clock.now()

    loop._turn()

    counts = looks.counts(store)
    assert (counts.released, counts.pending, messages(store)) == (LANES, 2, LANES)
    first = store.runs.current().first_release_at
    assert before - 0.1 <= first <= system_clock.now() + 0.1  # the run's time, as of when it was made
    announce(store, "w2")
    loop._looked_at = float("-inf")
    loop._turn()
    assert (looks.counts(store).released, messages(store)) == (7, 7)
    assert store.runs.current().first_release_at == first
    assert store.runs.current().workers_peak == 2


@pytest.mark.parametrize("hindrance", ["", "stranger", "died", "unsupervised"])
def test_how_long_workers_take_to_come_up_is_noted_where_nothing_hindered_them(store, start, conductor, hindrance):
    """What a faulty start took would be taken from the next windows, though nothing hinders anybody by then."""
    loop = start(1)
    store.processes.want(conductor._leader.token, 1)
    if hindrance != "unsupervised":
        store.processes.announce(Role.SUPERVISOR, Process("s", 1, "h", system_clock.now()))
    if hindrance == "stranger":
        store.processes.announce(Role.WORKER, Process("w0", 1, "h", 0.0, WorkerState.READY, LANES, "another"))
    loop._looked_at = float("-inf")
    loop._turn()
    if hindrance == "died":
        store.processes.count_restarts(["w0"])
    announce(store, "w1")
    loop._looked_at = float("-inf")
    loop._turn()

    assert store.runs.current().first_release_at is not None
    assert (store.processes.coming_up_seconds() is None) is bool(hindrance)


def test_what_was_released_is_begun(store, start, conductor):
    """By type, as a share of the run's calls needs it, whether it was carried over or is new."""
    steps.push(store, *steps.items(2, steps.TYPE, first=100))
    token = conductor._leader.token
    before = steps.start_run(store, token)
    steps.finish(store, token, before)
    assert store.runs.close(before.id, {}, store.known_types, wanted=0) == 1
    loop = start(5)
    announce(store, "w1")
    names = [steps.TYPE, steps.OTHER_TYPE]
    assert loop._begun(store.ledger.count(names)) == {steps.TYPE: 0, steps.OTHER_TYPE: 0}

    loop._turn()

    assert loop._begun(store.ledger.count(names)) == {steps.TYPE: LANES, steps.OTHER_TYPE: 0}


def test_the_first_release_waits_a_moment_for_the_rest_of_the_wanted_workers(store, start, conductor, monkeypatch):
    """While they boot calls would be late on their way; it does not wait for those that do not come."""
    loop = start(7)
    store.processes.want(conductor._leader.token, 2)
    announce(store, "w1", supervisor="s")

    loop._turn()
    assert messages(store) == 0

    monkeypatch.setattr(loop._gathering, "_until", system_clock.monotonic())
    loop._looked_at = float("-inf")
    loop._turn()
    assert messages(store) == LANES


def test_the_loop_wakes_when_a_slot_opens_whatever_the_turn_took_after_it_had_looked(store, start, monkeypatch):
    """A forecast was added to the wait for a slot, so each refill of a window came late by what the turn took."""
    loop = start(1)
    announce(store, "w1")
    for endpoint in store.settings.event_types[0].endpoints:
        while isinstance(store.windows.acquire(endpoint), Admitted):
            pass
        windows.pass_time(store, endpoint, 30.0)
    monkeypatch.setattr(release_loop, "QUIET_SECONDS", 600.0)
    began, spent = system_clock.monotonic(), []
    clock = Mock(wraps=system_clock, monotonic=lambda: system_clock.monotonic() + sum(spent))
    monkeypatch.setattr(release_loop, "system_clock", clock)
    monkeypatch.setattr(loop._forecaster, "look", lambda *_: spent.append(20.0))

    pause = loop._turn()

    waits = [one.wait_seconds for one in store.windows.look(loop._limited)[1].values() if not one.free]
    took = system_clock.monotonic() - began
    assert min(waits) > 20.0
    assert min(waits) - 20.0 - took <= pause <= min(waits) - 20.0 + took


def lasts(store):
    """Return whether the first released call stays valid for a while."""
    first = store.client.lindex(store.keys.releases, 0)
    return first is not None and json.loads(first)["void"] > store.now_us() + 500_000


def test_calls_that_no_worker_takes_are_what_their_events_wait_for(store, start, monkeypatch):
    """Until one takes one. Frozen workers count as ready, and the limit was the cause though its slots were free."""
    monkeypatch.setattr(releases, "CLAIM_SECONDS", 0.01)
    loop = start(2 * LANES)
    announce(store, "w1")

    def turned():
        loop._looked_at = float("-inf")
        loop._turn()
        return loop._waits.by_type.get(steps.TYPE, {}).get(Wait(Obstacle.SILENT), 0.0)

    wait_until(turned, message="a look counts what a worker is waited for that takes calls")
    monkeypatch.undo()
    wait_until(lambda: turned() and lasts(store), message="calls are released that stay so for a second")
    seconds = turned()
    assert steps.claim(store, loop._run, worker="w1") is not None
    assert turned() == turned() >= seconds


def test_no_worker_is_missed_for_calls_that_its_host_cannot_make(store, start, monkeypatch, caplog):
    """Lanes pass them over, so they are void in the end: not for want of a worker."""
    monkeypatch.setattr(releases, "CLAIM_SECONDS", 0.01)
    loop = start(LANES)
    announce(store, "h:1:x")
    loop._turn()
    assert looks.released(store)
    for one in store.settings.event_types[0].endpoints:
        fail(store, one, "h", here=True)
    loop._hosts.look()

    def voided():
        loop._looked_at = float("-inf")
        loop._turn()
        return "Not made in time" in caplog.text

    wait_until(voided, message="what was released is void")
    assert loop._lack(loop._counts) is None
    assert Wait(Obstacle.SILENT) not in loop._waits.by_type.get(steps.TYPE, {})


def test_a_cancelled_run_gets_no_more(store, start):
    """The loop is over at its next look."""
    loop = start(7)
    announce(store, "w1")
    store.runs.cancel(store.runs.current().id)

    assert loop._turn() is None
    assert loop.cancelled
    assert messages(store) == 0


def test_a_run_that_another_has_closed_is_nobodys_here(store, start, conductor):
    """Its conductor stops at once."""
    loop = start(1)
    run = store.runs.current()
    steps.finish(store, conductor._leader.token, run)
    assert store.runs.close(run.id, {}, store.known_types, wanted=0) == 1

    with pytest.raises(FencedError, match="was closed by another"):
        loop._turn()


def test_what_is_overdue_is_pending_again_at_the_next_look(store, start, conductor):
    """For a call that no lane made, of a lease that ran out, of a back-off that has ended."""
    loop, keys = start(3), store.keys
    token, run = conductor._leader.token, store.runs.current()
    abandoned = steps.claim_next(store, token, run)
    steps.release(store, token, run, void=-1_000_000)
    long_ago = looks.redis_us(store) - 1_000_000
    store.client.zadd(keys.inflight(steps.TYPE), {abandoned.event_id: -long_ago})
    store.client.zrem(keys.pending(steps.TYPE), steps.event_id(3))
    store.client.zadd(keys.backoff(steps.TYPE), {steps.event_id(3): long_ago})

    loop._turn()

    assert [looks.where(store, one) for one in steps.event_ids(3)] == [["pending"]] * 3
    assert looks.released(store) == []


def test_what_lanes_found_to_be_no_event_is_a_dead_letter_at_the_next_look(store, start, conductor):
    """The others are still pending."""
    loop, run = start(2), store.runs.current()
    store.client.delete(store.keys.event(steps.event_id(1)))
    assert steps.claim_next(store, conductor._leader.token, run).event_id == steps.event_id(2)

    loop._turn()

    (letter,) = looks.letters(store)
    assert letter["event_id"] == steps.event_id(1)
    assert (looks.counts(store).pending, looks.counts(store).inflight) == (0, 1)


def test_a_limit_that_is_changed_holds_for_what_remains_and_for_its_forecast(store, start, conductor, monkeypatch):
    """From the next look on."""
    store.publish_limits(conductor._leader.token)
    loop, told = start(7), []
    monkeypatch.setattr(loop._forecaster, "follow", told.append)
    announce(store, "w1")
    loop._turn()
    assert told == []

    store.control.limit(store.settings.endpoints[steps.ENDPOINT], "3/minute", "me")
    loop._looked_at = float("-inf")
    loop._turn()

    (types,) = told
    assert types == loop._types
    assert [one.limit.text for one in types[0].endpoints if one.name == steps.ENDPOINT] == ["3/minute"]


def test_workers_are_lacked_only_where_something_could_be_sent(store, start):
    """Where every endpoint rests beyond the deadline nobody blames them: the run has leftovers, and did not fail."""
    loop = start(1)
    endpoints = store.settings.event_types[0].endpoints
    for endpoint in endpoints:
        store.breaker.rest(endpoint, 1000)
    assert loop._turn() is None
    assert not loop.lacked_workers

    for endpoint in endpoints:
        store.control.resume(endpoint, "me")
    assert loop._turn() is not None
    assert loop.lacked_workers


def test_leases_that_ran_out_while_redis_was_away_are_no_workers_fault(store, start, monkeypatch):
    """None of them could settle anything, and first they may; of the next look on they are to blame again."""
    loop, real, looked, blameless = start(1), store.ledger.count_waiting, [], []

    def count(names):
        looked.append(names)
        if len(looked) == 1:
            raise StoreError("Redis is away", waited_seconds=5.0)
        if len(looked) == 3:
            assert not blameless, "lanes settle what they were answered meanwhile"
            loop._settling_until = 1e-9  # that was a while ago
        if len(looked) == 4:
            store.runs.cancel(store.runs.current().id)
        return real(names)

    monkeypatch.setattr(store.ledger, "count_waiting", count)
    monkeypatch.setattr(store.recovery, "orphan_expired", lambda *_, closing: blameless.append(closing) or 0)
    monkeypatch.setattr(loop._duty, "wait", lambda _: setattr(loop, "_looked_at", float("-inf")))

    loop.run()

    assert blameless == [True, False]
    assert not loop.lost_redis
    assert float(loop.account()["away_seconds"]) == pytest.approx(5.0, abs=0.5)


def test_nothing_is_forecast_in_a_turn_that_outlasts_the_deadline(store, start, monkeypatch):
    """With a Redis that answers slowly that was another second until the run was closed."""
    loop, looked = start(3), []
    announce(store, "w1")
    monkeypatch.setattr(loop._forecaster, "look", lambda *_: looked.append(True))
    loop._turn()
    assert looked
    looked.clear()
    real = loop._releases.release
    monkeypatch.setattr(loop._releases, "release", lambda *args: (setattr(loop, "_deadline", 0.0), real(*args))[1])

    loop._turn()

    assert not looked
