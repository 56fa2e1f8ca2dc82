"""The drain in pieces: a moment of it before the plan, the rest between turns, whoever conducts then."""

from __future__ import annotations

import pytest

from rlm.core.errors import StoreError
from rlm.core.run import State
from rlm.delivery.run_end import close_run
from rlm.ledger import drain as drains
from rlm.ledger import intake
from rlm.ledger.drain import Drain
from scheduler.release_loop import BUSY_SECONDS, DRAINING_SECONDS, QUIET_SECONDS
from tests.store import looks, steps


@pytest.fixture
def drain(store, conductor, monkeypatch):
    """The drain of an open run, with items `i1`, `i2`, ... on the audit list, two per chunk: `drain(5)`."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    monkeypatch.setattr(drains, "PIECE_SECONDS", 0.0)

    def begin(number, window_seconds=60.0):
        steps.push(store, *steps.items(number, steps.TYPE))
        leader = conductor._leader
        return Drain(store, leader.token, steps.open_run(store, leader.token, window_seconds))

    return begin


def test_it_is_taken_a_piece_at_a_time(store, drain):
    """Each piece is a chunk at the least; what is over pauses for nothing."""
    drained = drain(5)

    drained.work(0.0)
    assert (drained.over, drained.taken[steps.TYPE]) == (False, 2)
    assert drained.untaken()[steps.TYPE] == 3

    assert [drained.fill(0.0), drained.fill(0.0)] == [0.0, 0.0]
    assert (drained.over, drained.untaken()) == (True, {})
    assert drained.fill(0.05) == 0.05
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


def test_the_plan_counts_what_is_not_taken_yet(store, drain, conductor):
    """A run of 1,000 items of which 2 are taken is planned as one of 1,000."""
    drained = drain(1000)
    drained.work(0.0)
    steps.put_into(store, State.PLANNING)

    conductor._conductor._plan(drained.run, drained.untaken())

    assert 700 < store.runs.current().plan.expected_leftover < 1000


def test_the_forecast_counts_what_is_not_taken_yet(store, drain, conductor):
    """Else it would promise that all is done, until it is taken."""
    drained = drain(1000)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)

    steps.release_loop(store, conductor, drained)._turn()

    assert store.runs.current().forecast.leftover_by_type[steps.TYPE] > 700


def test_what_cannot_be_taken_in_time_is_no_leftover(store, drain, conductor, monkeypatch):
    """The record counts what was taken, and so does the forecast; both say how many items were not."""
    drained = drain(1000)
    drained.work(0.0)
    drained._worked_seconds = 1.0
    steps.put_into(store, State.RUNNING)
    loop = steps.release_loop(store, conductor, drained)
    assert (drained.takes(5.0), drained.untaken(5.0)[steps.TYPE]) == (10, 10)
    assert sum(drained.untaken().values()) == 998

    monkeypatch.setattr(drained, "takes", lambda _seconds: 10)
    loop._turn()

    forecast = store.runs.current().forecast
    assert forecast.untaken == 988
    assert "988 items cannot be taken before the deadline" in forecast.binds
    assert forecast.expected_leftover <= 12
    left = drained.left
    assert store.runs.advance(conductor._leader.token, drained.run.id, State.FINISHING, **loop.account())
    assert close_run(store, drained.run.id).untaken == left > 900


def test_the_first_forecast_after_a_takeover_counts_what_is_not_taken_yet(store, drain, conductor, monkeypatch):
    """Whoever takes a run over knows nothing of the items that are left: it takes a piece first."""
    drained = drain(1000)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)
    seen = []
    monkeypatch.setattr("scheduler.conductor.Conductor._release", lambda _self, _run, drain: seen.append(drain))
    monkeypatch.setattr("scheduler.conductor.Conductor.finish", lambda _self, _run: None)

    conductor._conductor.conduct(store.runs.current())

    assert seen[0].untaken()[steps.TYPE] == seen[0].left > 0


def test_a_run_does_not_end_before_all_is_taken(store, drain, conductor):
    """Nothing can be sent, for all that is taken is done: what is still staged can be."""
    drained = drain(3)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)
    for _ in range(2):
        claim = steps.claim(store)
        assert steps.complete(store, claim)
    loop = steps.release_loop(store, conductor, drained)

    assert loop._turn() is not None

    assert drained.over
    assert looks.pending(store) == [steps.event_id(3)]
    assert loop._begun(store.ledger.count(loop._names))[steps.TYPE] == 2


@pytest.fixture
def idle_loop(store, drain, conductor, monkeypatch):
    """The loop of a run with one item still to take and nothing else to do; and for how long it drains at a time."""
    drained = drain(3)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)
    for _ in range(2):
        claim = steps.claim(store)
        assert steps.complete(store, claim)
    pauses = []
    monkeypatch.setattr(drained, "fill", lambda pause: pauses.append(pause) or 0.0)
    return steps.release_loop(store, conductor, drained), pauses


def test_the_loop_drains_until_a_slot_comes(idle_loop):
    """Of what is taken nothing can be sent as yet: a look at it so often would cost as much as a chunk each time."""
    loop, pauses = idle_loop

    loop._turn()
    loop._drain.work(60.0)
    loop._turn()

    assert pauses == [DRAINING_SECONDS, BUSY_SECONDS]


def test_the_loop_looks_sooner_while_an_event_is_to_be_tried_again(store, drain, conductor, monkeypatch):
    """Its back-off may end at any moment, and a slot may be free for it."""
    drained = drain(3)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)
    assert steps.complete(store, steps.claim(store))
    assert steps.fail(store, steps.claim(store), "backoff", delay_us=60_000_000)
    pauses = []
    monkeypatch.setattr(drained, "fill", lambda pause: pauses.append(pause) or 0.0)

    steps.release_loop(store, conductor, drained)._turn()

    assert pauses == [QUIET_SECONDS]


def test_a_cancelled_run_takes_no_more(store, drain, conductor):
    """What is staged stays for the next drain."""
    drained = drain(5)
    drained.work(0.0)
    steps.put_into(store, State.RUNNING)
    store.runs.cancel(drained.run.id)

    steps.release_loop(store, conductor, drained).run()

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

    record = conductor._conductor.conduct(run)

    assert states == [State.DRAINING, *[State.RUNNING] * 3]
    assert (record.counts.taken, record.counts.leftover) == (7, 7)
    assert store.intake.waiting() == 0


def test_who_takes_a_run_over_before_its_plan_plans_for_what_is_not_taken(store, drain, conductor, monkeypatch):
    """Whoever drained it has died with its estimate: a piece shows what the rest is like."""
    monkeypatch.setattr("scheduler.conductor.FIRST_SECONDS", 0.0)
    drained = drain(1000)
    drained.work(0.0)
    steps.put_into(store, State.PLANNING)
    monkeypatch.setattr(conductor._conductor, "_release", lambda *_: None)
    monkeypatch.setattr(conductor._conductor, "finish", lambda _run: None)

    conductor._conductor.conduct(store.runs.current())

    assert 700 < store.runs.current().plan.expected_leftover < 1000
