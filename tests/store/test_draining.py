"""The drain in pieces: the first before the plan, the rest between looks, whoever conducts then."""

from __future__ import annotations

import pytest

from rlm.core.errors import StoreError
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


def test_it_is_taken_a_piece_at_a_time(store, drain):
    """Each piece is a chunk at the least."""
    drained = drain(5)

    drained.work(0.0)
    assert (drained.over, drained.taken[steps.TYPE]) == (False, 2)
    assert drained.untaken()[steps.TYPE] == 3

    drained.work(60.0, items=1)
    assert drained.taken[steps.TYPE] == 4
    drained.work(60.0)
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


@pytest.mark.parametrize("state", [State.DRAINING, State.PLANNING])
def test_the_plan_counts_what_is_not_taken_yet(store, drain, conductor, piece, state):
    """A run of 1,000 items of which a few are taken is planned as one of 1,000, also by a successor."""
    drained = drain(1000)
    drained.work(0.0)
    steps.put_into(store, state)
    conducting = Conductor(conductor._desk, store.runs.current())

    conducting.drain()
    conducting.plan()

    assert 700 < store.runs.current().plan.expected_leftover < 1000
    assert store.client.hexists(store.keys.run, "draining")


def test_the_forecast_counts_what_is_not_taken_yet(store, drain, conductor, piece):
    """Else it would promise that all is done, until it is taken."""
    drained = drain(1000)
    drained.work(0.0)

    assert looking(store, conductor, drained)[0]() == 0.0

    assert store.runs.current().forecast.leftover_by_type[steps.TYPE] > 700


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


def test_a_cancelled_run_takes_no_more(store, drain, conductor):
    """What is staged stays for the next drain."""
    drained = drain(5)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)
    store.runs.cancel(drained.run.id)

    record = Conductor(conductor._desk, store.runs.current()).await_end()

    assert (record.state, record.counts.leftover) == ("cancelled", 2)
    assert store.intake.waiting() == 3


def test_it_goes_on_when_redis_is_back(store, drain, monkeypatch):
    """Whatever it was at: the next piece begins with what is staged then."""
    drained = drain(5)
    drained.work(0.0)
    take = store.intake._take
    monkeypatch.setattr(store.intake, "_take", lambda *_: (_ for _ in ()).throw(StoreError("away")))
    with pytest.raises(StoreError):
        drained.work(0.0)
    assert not drained.over

    monkeypatch.setattr(store.intake, "_take", take)
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
