"""cancel_run: anybody may ask the conductor to end the open run now."""

from __future__ import annotations

import pytest

from rlm.core.run import State
from tests.store import looks, steps
from tests.values import replace


def test_without_an_open_run_there_is_nothing_to_cancel(store, token):
    """The answer is that it is not open."""
    with looks.nothing_changes(store):
        assert not store.runs.cancel("no run")


@pytest.mark.parametrize("state", [State.DRAINING, State.PLANNING, State.RUNNING])
def test_an_open_run_is_marked(store, token, state):
    """The mark is all that changes: ending the run is the conductor's business."""
    run = steps.open_run(store, token)
    steps.put_into(store, state)

    assert store.runs.cancel(run.id)

    assert store.runs.current() == replace(run, state=state, cancelled=True)


def test_a_finishing_run_ends_as_it_would_have(store, token):
    """It is not marked."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)

    with looks.nothing_changes(store):
        assert store.runs.cancel(run.id)


def test_a_repeated_call_changes_nothing(store, token):
    """Impatience does no harm."""
    run = steps.open_run(store, token)
    store.runs.cancel(run.id)

    with looks.nothing_changes(store):
        assert store.runs.cancel(run.id)


def test_another_run_is_not_cancelled_in_its_place(store, token):
    """Who names a run that is closed, or was never there, does not hit the open one."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, wanted=0)
    steps.open_run(store, token)

    with looks.nothing_changes(store):
        assert not store.runs.cancel(run.id)


def test_no_lease_is_needed(store, token):
    """The mark holds whoever conducts: it needs no token, and outlives a change of conductors."""
    run = steps.open_run(store, token)
    successor = steps.take_over(store)

    assert store.runs.cancel(run.id)

    assert store.runs.advance(successor, run.id, State.PLANNING)
    assert store.runs.current().cancelled
