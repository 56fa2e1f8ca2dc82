"""advance_run: the conductor moves the open run on and writes its known facts."""

from __future__ import annotations

import pytest

from rlm.core.documents import RunPlan
from rlm.core.errors import StoreError
from rlm.core.run import MOVES, State
from tests.store import looks, steps
from tests.values import replace


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
        steps.put_into(store, before)

        with looks.nothing_changes(store), pytest.raises(StoreError, match=f"is {before}.* moves to {after}"):
            store.runs.advance(token, run.id, after, workers_peak=4)


def test_another_run_does_not_move(store, token):
    """Nor is it created, nor the open one touched."""
    steps.open_run(store, token)

    with looks.nothing_changes(store):
        assert not store.runs.advance(token, "another", State.RUNNING)


def test_a_closed_run_does_not_move(store, token):
    """Its hash does not come back."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, wanted=0)

    with looks.nothing_changes(store):
        assert not store.runs.advance(token, run.id, State.RUNNING, workers_peak=4)
