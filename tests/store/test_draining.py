"""The drain in pieces: the first before the plan, the rest between looks, whoever conducts then."""

from __future__ import annotations

import time

import pytest

from rlm.core.errors import StoreError
from rlm.core.run import State
from rlm.ledger import intake
from rlm.ledger.intake import Drain
from scheduler.conductor import Conductor
from tests.store import looks, steps


@pytest.fixture
def drain(store, office, monkeypatch):
    """The drain of an open run, with items `i1`, `i2`, ... on the audit list, two per chunk: `drain(5)`."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)

    def begin(number, window_seconds=60.0):
        steps.push(store, *steps.items(number, steps.TYPE))
        token = office.token
        return Drain(store, token, steps.open_run(store, token, window_seconds))

    return begin


@pytest.fixture
def piece(monkeypatch):
    """Drain no more than a chunk before the plan, and between two looks."""
    monkeypatch.setattr("scheduler.conductor.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("scheduler.conductor.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("scheduler.conductor.BUSY_SECONDS", 0.0)


def test_a_successor_goes_on_in_mid_run(store, drain, office):
    """It knows how much is left, and what the run has taken before."""
    drained = drain(5)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)

    after = Drain(store, office.token, store.runs.current())
    assert (after.over, after.taken[steps.TYPE]) == (False, 2)
    after.work(60.0)

    assert (after.over, after.taken[steps.TYPE]) == (True, 5)
    assert looks.pending(store) == steps.event_ids(5)


def test_a_drain_stops_at_its_mark_of_memory_wherever_it_is(store, drain, monkeypatch):
    """What an earlier run has left in staging is not taken either, nor is the audit list staged."""
    monkeypatch.setattr(intake, "MEMORY_MARK", 0.0)
    store.client.lpush(store.keys.processing, *steps.items(5, steps.TYPE))
    drained = drain(3)
    store.client.config_set("maxmemory", 2**40)
    try:
        drained.work(60.0)
    finally:
        store.client.config_set("maxmemory", 0)

    assert (drained.over, drained.taken[steps.TYPE], store.intake.lengths()) == (True, 2, (3, 3))


def test_a_run_of_which_a_list_cannot_be_read_is_closed_at_its_deadline(store, office):
    """It failed: nothing of it could be planned."""
    store.client.set(store.keys.events, "no list")
    conductor = Conductor(office, steps.open_run(store, office.token, window_seconds=0.3))
    with pytest.raises(StoreError):
        conductor.conduct()
    time.sleep(0.3)

    conductor.conduct()

    record = store.runs.recent(1)[0]
    assert (record.state, store.runs.current()) == (State.FAILED, None)
    store.client.delete(store.keys.events)


def test_a_run_goes_through_with_pieces(store, drain, office, piece, monkeypatch):
    """Without a worker: it is planned after its first chunk, all is taken all the same, and the books balance."""
    states, drain_on = [], Drain.work

    def noted(*args):
        states.append(store.runs.current().state)
        drain_on(*args)

    monkeypatch.setattr(Drain, "work", noted)
    run = drain(7, window_seconds=2.0).run

    Conductor(office, run).conduct()
    record = store.runs.record(run.id)

    assert states == [State.DRAINING, *[State.RUNNING] * (len(states) - 1)]
    assert (record.counts.taken, record.counts.leftover) == (7, 7)
    assert sum(store.intake.lengths()) == 0
