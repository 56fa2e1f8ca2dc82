"""The drain in pieces: a moment of it before the plan, the rest between turns, whoever conducts then."""

from __future__ import annotations

import pytest

from rlm.core.errors import StoreError
from rlm.core.run import State
from rlm.delivery.run_end import close_run
from rlm.ledger import intake
from rlm.ledger.drain import Drain
from scheduler.conductor import Conductor
from scheduler.looks import Looks
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


def begin(store, conductor, run, **fields):
    """Set a run running before all of it is taken."""
    for state in (State.PLANNING, State.RUNNING):
        assert store.runs.advance(conductor._leader.token, run.id, state, **fields)


def test_it_is_taken_a_piece_at_a_time(store, drain):
    """Each piece is a chunk at the least."""
    drained = drain(5)

    drained.work(0.0)
    assert (drained.over, drained.taken[steps.TYPE]) == (False, 2)
    assert drained.untaken()[steps.TYPE] == 3

    drained.work(0.0)
    drained.work(0.0)
    assert (drained.over, drained.untaken()) == (True, {})
    assert looks.pending(store) == steps.event_ids(5)


def test_what_arrives_while_it_goes_on_is_the_next_runs(store, drain):
    """The audit list is staged once a run, whatever is taken from it later."""
    drained = drain(5)
    drained.work(0.0)
    steps.push(store, *steps.items(2, steps.TYPE, first=6))

    drained.work(60.0)

    assert drained.over
    assert looks.pending(store) == steps.event_ids(5)
    assert store.intake.lengths() == (0, 2)


def test_an_estimate_has_as_many_events_of_each_type_as_came_so_far(store, drain):
    """Two of three events a pair of items, so two of three of the 98 items that are left, each with one and a half."""
    steps.push(store, *[steps.item(f"a{one}", steps.TYPE, *([steps.OTHER_TYPE] * (one % 2))) for one in range(100)])
    drained = drain(0)

    drained.work(0.0)

    assert drained.untaken() == {**dict.fromkeys(drained.taken, 0), steps.TYPE: 98, steps.OTHER_TYPE: 49}


def test_the_forecast_counts_what_is_not_taken_yet(store, drain, conductor):
    """Else it would promise that all is done, until it is taken."""
    drained = drain(1000)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)
    looks_at = Looks(conductor._desk, drained.run, drained)

    looks_at._next_look = lambda left: left
    looks_at.turn()

    assert store.runs.current().forecast.leftover_by_type[steps.TYPE] > 700


def test_what_cannot_be_taken_in_time_is_no_leftover(store, drain):
    """The record says how many items were not taken."""
    drained = drain(1000)
    drained.work(0.0)
    drained._worked_seconds = 1.0
    steps.put_into(store, State.RUNNING)
    assert (drained.takes(5.0), drained.untaken(5.0)[steps.TYPE]) == (10, 10)
    assert sum(drained.untaken().values()) == 998
    store.client.hset(store.keys.run, "deadline_us", store.now_us() - 1_000_000)

    record = close_run(store, drained.run.id)

    assert (record.counts.leftover, record.untaken) == (2, 998)


def test_a_run_does_not_end_before_all_is_taken(store, drain, conductor):
    """Nothing can be sent, for all that is taken is done: what is still staged can be."""
    drained = drain(3)
    drained.work(0.0)
    begin(store, conductor, drained.run)
    for _ in range(2):
        assert steps.complete(store, steps.claim(store))
    looks_at = Looks(conductor._desk, drained.run, drained)

    assert looks_at.turn() == 0.0

    assert drained.over
    assert looks.pending(store) == [steps.event_id(3)]


def test_no_lane_ends_a_run_that_is_still_drained(store, drain, conductor):
    """All that is taken is done."""
    drained = drain(3)
    drained.work(0.0)
    begin(store, conductor, drained.run, draining=1)
    for _ in range(2):
        assert steps.complete(store, steps.claim(store))

    assert not steps.ask(store).close
    assert close_run(store, drained.run.id) is None


def test_a_cancelled_run_takes_no_more(store, drain, conductor):
    """What is staged stays for the next drain."""
    drained = drain(5)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)
    store.runs.cancel(drained.run.id)

    Conductor(conductor._desk, store.runs.current()).conduct()

    assert looks.pending(store) == steps.event_ids(2)
    assert store.intake.waiting() == 3


def test_it_goes_on_when_redis_is_back(store, drain, monkeypatch):
    """Whatever it was at: the next piece begins with what is staged then."""
    drained = drain(5)
    drained.work(0.0)
    take = store.intake._take_chunk
    monkeypatch.setattr(store.intake, "_take_chunk", lambda *_: (_ for _ in ()).throw(StoreError("away")))
    with pytest.raises(StoreError):
        drained.work(0.0)
    assert not drained.over

    monkeypatch.setattr(store.intake, "_take_chunk", take)
    drained.work(60.0)

    assert drained.over
    assert looks.pending(store) == steps.event_ids(5)


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


def test_a_run_goes_through_with_pieces(store, drain, conductor, monkeypatch):
    """Without a worker: it is planned after its first chunk, all is taken all the same, and the books balance."""
    monkeypatch.setattr("scheduler.conductor.FIRST_SECONDS", 0.0)
    states = []
    take = store.intake._take_chunk

    def noted(*args):
        states.append(store.runs.current().state)
        return take(*args)

    monkeypatch.setattr(store.intake, "_take_chunk", noted)
    run = drain(7, window_seconds=1.0).run

    record = Conductor(conductor._desk, run).conduct()

    assert states == [State.DRAINING, *[State.RUNNING] * 3]
    assert (record.counts.taken, record.counts.leftover) == (7, 7)
    assert store.intake.waiting() == 0


def test_who_takes_a_run_over_before_its_plan_plans_for_what_is_not_taken(store, drain, conductor, monkeypatch):
    """Whoever drained it has died with its estimate: a piece shows what the rest is like."""
    monkeypatch.setattr("scheduler.conductor.FIRST_SECONDS", 0.0)
    drained = drain(1000)
    drained.work(0.0)
    steps.put_into(store, State.PLANNING)
    taken_over = Conductor(conductor._desk, store.runs.current())

    taken_over.drain()
    taken_over.plan()

    assert 700 < store.runs.current().plan.expected_leftover < 1000
