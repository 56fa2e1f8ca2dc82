"""The drain in pieces: the first before the plan, the rest between looks, whoever conducts then."""

from __future__ import annotations

import pytest

from rlm.core.run import State
from rlm.delivery.run_end import close_run
from rlm.ledger import intake
from rlm.ledger.drain import Drain
from scheduler.conductor import Conductor
from scheduler.looks import Looking, account, look_at
from tests.store import looks, steps


@pytest.fixture
def drain(store, conductor, monkeypatch):
    """The drain of an open run, with items `i1`, `i2`, ... on the audit list, two per chunk: `drain(5)`."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)

    def begin(number, window_seconds=60.0):
        steps.push(store, *steps.items(number, steps.TYPE))
        leader = conductor._leader
        return Drain(store, leader.token, steps.open_run(store, leader.token, window_seconds))

    return begin


@pytest.fixture
def piece(monkeypatch):
    """Drain no more than a chunk before the plan, and between two looks."""
    monkeypatch.setattr("scheduler.conductor.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("scheduler.looks.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("scheduler.looks.ENDPOINTS_A_SECOND", 10**9)
    monkeypatch.setattr("scheduler.looks.BUSY_SECONDS", 0.0)


def looking(store, conductor, drained):
    """Begin to look at a run that is running, with events still to drain."""
    steps.put_into(store, State.PLANNING)
    token, types = conductor._leader.token, store.settings.event_types
    store.rules.publish(token, types, {})
    store.runs.advance(token, drained.run.id, State.RUNNING, draining=1)
    seen = Looking.begin(conductor._desk, store.runs.current(), drained)
    return lambda: look_at(conductor._desk, seen), lambda: account(conductor._desk, seen)


def test_what_cannot_be_taken_in_time_is_no_leftover(store, drain, conductor, piece, monkeypatch):
    """The record counts what was taken, and so does the forecast; both say how many items were not."""
    drained = drain(1000)
    drained.work(0.0)
    drained._worked_seconds = 1.0
    assert (drained.takes(5.0), drained.untaken(5.0)[steps.TYPE]) == (10, 10)
    assert sum(drained.untaken().values()) == 998
    monkeypatch.setattr(drained, "takes", lambda _seconds: 10)
    look, ended = looking(store, conductor, drained)

    look()

    forecast = store.runs.current().forecast
    assert forecast.untaken == 988
    assert "988 items cannot be taken before the deadline" in forecast.binds
    assert forecast.expected_leftover <= 12
    left = drained.left
    assert store.runs.end(drained.run.id, conductor._leader.token, **ended())
    assert close_run(store, drained.run.id).untaken == left > 900


def test_a_run_does_not_end_before_all_is_taken(store, drain, conductor, piece):
    """Nothing can be sent, for all that is taken is done: what is still staged can be. Lanes hear when all is."""
    drained = drain(3)
    drained.work(0.0)
    look, _ = looking(store, conductor, drained)
    for _ in range(2):
        assert steps.complete(store, steps.claim(store))

    assert look() == 0.0

    assert drained.over
    assert not store.client.hexists(store.keys.run, "draining")
    assert looks.pending(store) == [steps.event_id(3)]
    assert steps.complete(store, steps.claim(store))
    assert look() is None


def test_a_successor_goes_on_in_mid_run(store, drain, conductor):
    """It knows how much is left, and what the run has taken before."""
    drained = drain(5)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)

    after = Drain(store, conductor._leader.token, store.runs.current())
    assert (after.over, after.taken[steps.TYPE]) == (False, 2)
    after.work(60.0)

    assert (after.over, after.taken[steps.TYPE]) == (True, 5)
    assert looks.pending(store) == steps.event_ids(5)


def test_a_run_goes_through_with_pieces(store, drain, conductor, piece, monkeypatch):
    """Without a worker: it is planned after its first chunk, all is taken all the same, and the books balance."""
    states = []
    take = store.intake._take

    def noted(*args):
        if args[2].items:
            states.append(store.runs.current().state)
        return take(*args)

    monkeypatch.setattr(store.intake, "_take", noted)
    run = drain(7, window_seconds=1.0).run

    record = Conductor(conductor._desk, run).conduct()

    assert states == [State.DRAINING, *[State.RUNNING] * 3]
    assert (record.counts.taken, record.counts.leftover) == (7, 7)
    assert store.intake.waiting() == 0
