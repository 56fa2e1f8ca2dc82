"""open_run: at most one run is open, and its books start from what is unsettled at that instant."""

from __future__ import annotations

import pytest

from rlm.core.item import Reason, encode_letter
from rlm.core.run import State
from tests.store import looks, steps
from tests.store.deadletters import retry


def open_run(store, token, run):
    return store.runs.open(token, run, store.known_types)


def close(store, token, run):
    steps.finish(store, token, run)
    assert store.runs.close(run.id, {}, wanted=0) == 1


@pytest.fixture
def left_over(store, token, running):
    """Leave `number` pending events behind, with no run open: `left_over(3)`."""

    def leave(number, type_name=steps.TYPE):
        close(store, token, running(number, type_name))

    return leave


def retried(store, item_id, **fields):
    """Send the event of a dead letter into the next run."""
    item, event = steps.item(item_id, steps.TYPE, **fields), f"{item_id}:{steps.TYPE}"
    letter = encode_letter(item, Reason.REJECTED, "no", failed_at=0, run_id=None, event=event)
    store.client.lpush(store.keys.failed, letter)
    assert retry(store, letter)


def test_the_first_run_opens_over_an_empty_ledger(store, token):
    """It is the open run, in the state it was given, with nothing carried over."""
    run = steps.make_run(store)

    assert open_run(store, token, run) == run.id

    assert store.runs.current() == run
    assert looks.tally(store) == {}


@pytest.mark.parametrize("number", [1, 201])
def test_leftovers_are_carried_over(store, token, left_over, number):
    """They are pending all the time; the run counts them, by type."""
    left_over(number)
    left_over(2, steps.OTHER_TYPE)
    run = steps.make_run(store)

    open_run(store, token, run)

    assert looks.tally(store) == {f"carried:{steps.TYPE}": number, f"carried:{steps.OTHER_TYPE}": 2}
    assert looks.pending(store) == steps.event_ids(number)


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_retried_dead_letters_count_as_taken(store, token, left_over, number):
    """They are pending from now on, in their order among the leftovers, few or many."""
    left_over(number)
    retried(store, "urgent", priority=100)
    retried(store, "late")
    run = steps.make_run(store)

    open_run(store, token, run)

    carried = {f"carried:{steps.TYPE}": number} if number else {}
    assert looks.tally(store) == {**carried, f"taken:{steps.TYPE}": 2}
    assert looks.pending(store) == ["urgent:REBALANCE_NEEDED", *steps.event_ids(number), "late:REBALANCE_NEEDED"]
    assert looks.where(store, "late:REBALANCE_NEEDED") == ["ready"]


def test_an_event_retried_while_a_run_is_open_is_taken_by_it(store, token, running):
    """It is ready at once."""
    running(1)

    retried(store, "late")

    assert looks.where(store, "late:REBALANCE_NEEDED") == ["ready"]
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 2}


def test_opening_the_same_run_again_changes_nothing(store, token, left_over):
    """After a lost reply nothing is carried over twice, and the run is as far as it was."""
    left_over(3)
    run = steps.make_run(store)
    open_run(store, token, run)
    store.runs.advance(token, run.id, State.PLANNING)

    with looks.nothing_changes(store):
        assert open_run(store, token, run) == run.id


def test_a_run_that_is_open_stays(store, token, running):
    """Runs never overlap: the second is told which one is open, and leaves no trace."""
    first, second = running(1), steps.make_run(store)

    with looks.nothing_changes(store):
        assert open_run(store, token, second) == first.id


def test_the_next_run_opens_once_the_last_is_closed(store, token, running):
    """What the last one left is carried over."""
    first = running(2)
    close(store, token, first)
    second = steps.make_run(store)

    assert open_run(store, token, second) == second.id

    assert looks.tally(store) == {f"carried:{steps.TYPE}": 2}
