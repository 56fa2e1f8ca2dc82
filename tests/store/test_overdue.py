"""A run that its conductor does not close in time is closed by others: when they look, and the record."""

from __future__ import annotations

import math

import pytest

from rlm.core.errors import StoreUnreachableError
from rlm.core.run import State
from rlm.delivery import run_end
from rlm.delivery.run_end import AGAIN_SECONDS, ASK_SECONDS, LAPSE_SECONDS, PATIENCE_SECONDS, REDIS_AWAY, OverdueWatch
from rlm.ledger.reading.books import books
from tests.clocks import SetClock
from tests.store import steps
from tests.store.windows import take
from tests.values import record_from

WINDOW_SECONDS = 60.0


@pytest.fixture
def clock(monkeypatch, store):
    """The clock of this host, which stands still; that of Redis is ahead by the age of the run."""
    made = SetClock()
    monkeypatch.setattr(run_end, "system_clock", made)
    real = store.runs.current_at

    def current_at():
        run, _ = real()
        return run, run.deadline_us + round((made.time - made.ends_at) * 1_000_000) if run else 0

    monkeypatch.setattr(store.runs, "current_at", current_at)
    made.ends_at = made.time + WINDOW_SECONDS
    return made


@pytest.fixture
def closed():
    """The records of the runs that a watch closed."""
    return []


@pytest.fixture
def watch(store, clock, closed):
    return OverdueWatch(store, on_closed=lambda _run, record: closed.append(record))


def let_end(store, run):
    """Let the deadline of a run be over by the clock of Redis."""
    store.client.hset(store.keys.run(run.id), "deadline_us", store.now_us() - 1)


def test_nobody_looks_before_the_deadline(store, watch, clock, running, monkeypatch):
    """Nor at all, without a run: what costs nothing while there is nothing to do."""
    monkeypatch.setattr(store.runs, "current_at", None)
    assert watch.pause_seconds == math.inf
    run = running(1)

    watch.expect(run.id, clock.ends_at)
    clock.sleep(WINDOW_SECONDS - 0.5)
    watch.look()

    assert watch.pause_seconds == pytest.approx(0.5)


def test_a_run_is_closed_once_it_was_seen_overdue_for_long_enough(store, token, watch, clock, closed, running):
    """Its books balance, and its record says that nobody conducted."""
    run = running(3)
    store.turns.complete(steps.completed(steps.claim_next(store, token, run)))
    store.runs.note(token, run.id, first_release_at=repr(run.started_at))
    watch.expect(run.id, clock.ends_at)
    let_end(store, run)

    clock.sleep(WINDOW_SECONDS)
    watch.look()
    assert store.runs.current() is not None
    clock.sleep(PATIENCE_SECONDS)
    watch.look()

    (record,) = closed
    assert record == store.runs.record(run.id)
    assert (record.counts.completed, record.counts.leftover) == (1, 2)
    assert record.state == "partial"
    assert [one.cause for one in record.why] == ["conductor"]
    assert books(store).faults == []
    clock.sleep(AGAIN_SECONDS)
    watch.look()
    assert watch.pause_seconds == math.inf


def test_who_closes_a_run_looks_whether_it_kept_its_promises(store, watch, clock, running, caplog):
    """No conductor will: the one that comes next knows of its own runs."""
    run = running(1)
    watch.expect(run.id, clock.ends_at)
    let_end(store, run)
    endpoint = store.endpoints()[steps.ENDPOINT]
    take(store, endpoint, endpoint.limit.rules[0].amount)
    key = store.keys.window(endpoint.window_id)
    store.client.lpush(key, store.client.lindex(key, 0))

    for seconds in (WINDOW_SECONDS, PATIENCE_SECONDS):
        clock.sleep(seconds)
        watch.look()

    (told,) = [one for one in caplog.records if getattr(one, "alarm", "") == "limit_exceeded"]
    assert (told.run_id, told.endpoint) == (run.id, steps.ENDPOINT)


def test_a_run_that_is_closed_is_looked_at_once(store, token, watch, clock, running):
    """Which is the rule."""
    run = running(0)
    watch.expect(run.id, clock.ends_at)
    steps.finish(store, token, run)
    store.runs.close(run.id, record_from(), [], wanted=0)

    clock.sleep(WINDOW_SECONDS)
    watch.look()

    assert watch.pause_seconds == math.inf


def test_what_the_conductor_wrote_as_the_run_finished_stands(store, token, watch, clock, closed, running):
    """It died while it waited for the last calls."""
    run = running(1)
    store.runs.advance(token, run.id, State.FINISHING, failure="no worker came up")
    watch.expect(run.id, clock.ends_at)

    clock.sleep(WINDOW_SECONDS)
    watch.look()
    clock.sleep(PATIENCE_SECONDS)
    watch.look()

    assert closed[0].failure == "no worker came up"
    assert store.leases.token() == token


def test_a_run_of_which_only_the_name_is_known_is_looked_at_for_its_deadline(watch, clock, running):
    """A message names the run, and nothing of it was claimed here."""
    watch.expect(running(1).id)
    assert watch.pause_seconds == 0

    watch.look()

    assert watch.pause_seconds == pytest.approx(WINDOW_SECONDS)


def test_redis_that_was_away_past_the_deadline_is_told_of(store, watch, clock, closed, running, monkeypatch):
    """And the patience counts from when it answers again: the conductor may live, and be about to close the run."""
    run = running(1)
    let_end(store, run)
    watch.expect(run.id, clock.ends_at)
    clock.sleep(WINDOW_SECONDS)
    watch.look()
    real = store.runs.current_at

    def fail():
        raise StoreUnreachableError("away")

    monkeypatch.setattr(store.runs, "current_at", fail)
    clock.sleep(PATIENCE_SECONDS)
    watch.look()
    monkeypatch.setattr(store.runs, "current_at", real)
    clock.sleep(AGAIN_SECONDS)
    watch.look()
    assert closed == []
    clock.sleep(PATIENCE_SECONDS)
    watch.look()

    (record,) = closed
    assert (record.state, record.failure) == ("failed", REDIS_AWAY)


def test_an_outage_before_the_deadline_fails_no_run(store, watch, clock, closed, running):
    """It was over by then."""
    run = running(1)
    let_end(store, run)
    watch.expect(run.id, clock.ends_at)
    watch.note_outage(clock.ends_at - 1)

    clock.sleep(WINDOW_SECONDS)
    watch.look()
    clock.sleep(PATIENCE_SECONDS)
    watch.look()

    assert closed[0].state == "partial"


def test_who_stood_still_itself_looks_anew(store, watch, clock, closed, running):
    """It does not know what happened meanwhile."""
    run = running(1)
    let_end(store, run)
    watch.expect(run.id, clock.ends_at)
    clock.sleep(WINDOW_SECONDS)
    watch.look()

    clock.sleep(PATIENCE_SECONDS + LAPSE_SECONDS + 0.1)
    watch.look()

    assert closed == []
    assert watch.pause_seconds == pytest.approx(PATIENCE_SECONDS)


def test_a_deadline_that_was_moved_is_waited_for(watch, clock, running):
    """The clock of Redis was set, and the deadline with it."""
    watch.expect(running(1).id, clock.ends_at)
    clock.ends_at += 5

    clock.sleep(WINDOW_SECONDS)
    watch.look()

    assert watch.pause_seconds == pytest.approx(5)


def test_the_next_run_is_looked_at_in_its_turn(store, token, watch, clock, running):
    """Also if only its predecessor was heard from here."""
    watch.expect("predecessor", clock.ends_at)
    run = running(1)
    clock.sleep(WINDOW_SECONDS)
    clock.ends_at += 7

    watch.look()

    assert watch.pause_seconds == pytest.approx(7)
    assert watch._expected[0] == run.id


def test_who_is_woken_looks_which_run_is_open_unless_it_knows(store, token, clock, running, monkeypatch):
    """Others may have each of its messages. Once a run, whose first calls go first: it is woken all the time."""
    looks, woken, real = [], [], store.runs.current_at
    monkeypatch.setattr(store.runs, "current_at", lambda: looks.append(clock.time) or real())
    watch = OverdueWatch(store, wake=lambda: woken.append(clock.time))

    def ask_and_look():
        watch.ask()
        watch.look()
        clock.sleep(2 * ASK_SECONDS)
        watch.look()

    ask_and_look()
    assert (len(looks), len(woken), watch.pause_seconds) == (1, 1, math.inf)
    assert looks[0] == woken[0] + 2 * ASK_SECONDS
    run = running(1)
    for _ in range(3):
        ask_and_look()
    assert (len(looks), len(woken), watch.pause_seconds) == (2, 2, pytest.approx(clock.ends_at - clock.time))

    steps.finish(store, token, run)
    store.runs.close(run.id, record_from(), [], wanted=0)
    clock.sleep(WINDOW_SECONDS)
    watch.look()
    clock.ends_at = clock.time + WINDOW_SECONDS
    running(1)
    ask_and_look()
    assert watch.pause_seconds == pytest.approx(clock.ends_at - clock.time)


def test_a_deadline_that_is_near_wakes_who_is_to_look(store, clock):
    """Once: the next claims of the same run do not."""
    woken = []
    watch = OverdueWatch(store, wake=lambda: woken.append(True))

    watch.expect("far", clock.time + 100)
    watch.expect("near")
    watch.expect("near", clock.time + 2)
    watch.expect("near", clock.time + 2.1)
    watch.expect("near")

    assert woken == [True]
