"""advance_run: the conductor moves the open run on and writes its known facts."""

from __future__ import annotations

import pytest

from rlm.core.documents import RunPlan
from rlm.core.errors import FencedError, StoreError
from rlm.core.run import MOVES, State
from tests.store import looks, steps
from tests.values import replace
from tests.wait import wait_until


def test_without_an_open_run_nothing_moves(store, token):
    """There is nothing to write to."""
    with looks.nothing_changes(store):
        assert not store.runs.advance(token, "no run", State.PLANNING, plan="{}")


def test_the_state_alone_may_change(store, token):
    """All else stands as it was opened."""
    run = steps.open_run(store, token)

    assert store.runs.advance(token, run.id, State.PLANNING)

    assert store.runs.current() == replace(run, state=State.PLANNING)


def test_fields_are_written_with_the_state(store, token):
    """Whoever reads the new state reads what belongs to it."""
    run = steps.open_run(store, token)

    assert store.runs.advance(
        token, run.id, State.PLANNING, plan='{"workers": 3}', restarts_before=2, workers_peak=4, failure="größer"
    )

    assert store.runs.current() == replace(
        run, state=State.PLANNING, plan=RunPlan(workers=3), restarts_before=2, workers_peak=4, failure="größer"
    )


def test_a_run_goes_through_all_its_states(store, token):
    """From draining to finishing, keeping what was written on the way."""
    run = steps.open_run(store, token)

    for state in (State.PLANNING, State.RUNNING, State.FINISHING):
        assert store.runs.advance(token, run.id, state, workers_peak=4)

    assert store.runs.current() == replace(run, state=State.FINISHING, workers_peak=4)


def test_a_repeated_call_changes_nothing(store, token):
    """After a lost reply the conductor may say it again."""
    run = steps.open_run(store, token)
    store.runs.advance(token, run.id, State.PLANNING, workers_peak=4)

    with looks.nothing_changes(store):
        assert store.runs.advance(token, run.id, State.PLANNING, workers_peak=4)


ILLEGAL = [
    (before, after) for before, moves in MOVES.items() for after in MOVES if after not in moves and after is not before
]


def test_a_run_makes_no_move_that_none_makes(store, token):
    """Neither back, nor past a state: the one that asks is wrong about where the run is."""
    run = steps.open_run(store, token)
    for before, after in ILLEGAL:
        steps.put_into(store, run, before)

        with looks.nothing_changes(store), pytest.raises(StoreError, match=f"is {before}.* moves to {after}"):
            store.runs.advance(token, run.id, after, workers_peak=4)


def test_a_run_of_which_all_is_lost_but_its_id_moves_anywhere(store, token):
    """It is written anew by whoever mends what Redis lost."""
    run = steps.open_run(store, token)
    store.client.delete(store.keys.run(run.id))

    assert store.runs.advance(token, run.id, State.FINISHING, failure="lost")

    assert store.client.hget(store.keys.run(run.id), "state") == b"finishing"


def test_a_cancelled_run_stays_cancelled(store, token):
    """Moving on does not take the mark away."""
    run = steps.open_run(store, token)
    store.runs.cancel(run.id)

    store.runs.advance(token, run.id, State.FINISHING)

    assert store.runs.current().cancelled


def test_another_run_does_not_move(store, token):
    """Nor is it created, nor the open one touched."""
    steps.open_run(store, token)

    with looks.nothing_changes(store):
        assert not store.runs.advance(token, "another", State.RUNNING)


def test_a_closed_run_does_not_move(store, token):
    """Its hash does not come back."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, [], wanted=0)

    with looks.nothing_changes(store):
        assert not store.runs.advance(token, run.id, State.RUNNING, workers_peak=4)


def test_a_stale_token_moves_nothing(store, token):
    """A conductor whose lease another one took is fenced, open run or not."""
    run = steps.open_run(store, token)
    steps.take_over(store)

    for run_id in (run.id, "another"):
        with looks.nothing_changes(store), pytest.raises(FencedError, match="advance_run"):
            store.runs.advance(token, run_id, State.FINISHING)


def test_a_lease_that_ran_out_serves_until_another_one_takes_it(store):
    """The successor goes on where the first one stopped, and the first one no longer does."""
    token = store.leases.acquire(steps.CONDUCTOR, 0.001)
    run = steps.open_run(store, token)
    wait_until(lambda: store.leases.holder() is None)

    assert store.runs.advance(token, run.id, State.PLANNING)

    successor = store.leases.acquire("successor", 600)
    with pytest.raises(FencedError):
        store.runs.advance(token, run.id, State.RUNNING)
    assert store.runs.advance(successor, run.id, State.FINISHING)
    assert store.runs.current().state is State.FINISHING


def test_advance_and_close_at_once_leave_no_half_run(store, token):
    """A late word of the conductor comes before the close, or finds no run; it never brings one back."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)

    closed, *_ = steps.at_once(
        lambda: store.runs.close(run.id, {}, [], wanted=0),
        *[lambda: store.runs.advance(token, run.id, State.FINISHING, workers_peak=4)] * 9,
    )

    assert closed == 1
    assert store.runs.current() is None
    assert not store.client.exists(store.keys.run(run.id))
