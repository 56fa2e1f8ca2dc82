"""end_overdue: a run past its deadline finishes, and its conductor is deposed."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.core.run import State
from tests.store import looks, steps
from tests.values import replace


@pytest.mark.parametrize("state", [State.DRAINING, State.PLANNING, State.RUNNING])
def test_an_overdue_run_finishes(store, token, state):
    """With the fields that are written; from whatever state it was left in."""
    run = steps.open_run(store, token, window_seconds=0.0)
    steps.put_into(store, run, state)

    assert store.runs.end_overdue(run.id, failure="away", untaken="3")

    assert store.runs.current() == replace(run, state=State.FINISHING, failure="away", untaken=3)


def test_its_conductor_changes_nothing_any_more(store, token):
    """It may have been frozen: what it drains, releases, notes, or moves on when it wakes up is refused."""
    steps.push(store, *steps.items(2, steps.TYPE))
    run = steps.open_run(store, token, window_seconds=0.0)
    store.runs.end_overdue(run.id)

    late = (
        lambda: steps.drain(store, token, run),
        lambda: steps.release(store, token, run),
        lambda: store.runs.note(token, run.id, workers_peak=9),
        lambda: store.runs.advance(token, run.id, State.FINISHING, failure="mine"),
    )
    with looks.nothing_changes(store):
        for write in late:
            with pytest.raises(FencedError):
                write()


def test_the_lease_is_free(store, token):
    """Another may conduct the next run at once, and the one that is deposed as well, by a new token."""
    run = steps.open_run(store, token, window_seconds=0.0)
    store.runs.end_overdue(run.id)

    assert store.leases.holder() is None
    assert store.leases.acquire("standby", 60.0) > token + 1


def test_nothing_that_is_released_is_left(store, token, running):
    """Else a lane would take it."""
    run = running(1, window_seconds=0.0)
    steps.release(store, token, run)

    store.runs.end_overdue(run.id)

    assert looks.released(store) == []


def test_a_run_that_has_time_left_goes_on(store, token, running):
    """Whoever believes that it is overdue has a clock that is wrong."""
    run = running(1)

    with looks.nothing_changes(store):
        assert not store.runs.end_overdue(run.id, failure="away")


def test_a_run_that_finishes_already_is_as_its_conductor_left_it(store, token):
    """What that knew counts."""
    run = steps.open_run(store, token, window_seconds=0.0)
    steps.finish(store, token, run)

    with looks.nothing_changes(store):
        assert not store.runs.end_overdue(run.id, failure="away")


def test_another_run_is_left_alone(store, token):
    """Who names a run that is closed by now does not hit the one that is open."""
    steps.open_run(store, token, window_seconds=0.0)

    with looks.nothing_changes(store):
        assert not store.runs.end_overdue("another")


def test_a_run_without_a_deadline_is_left_to_be_mended(store, token):
    """What is known of it is lost."""
    run = steps.open_run(store, token, window_seconds=0.0)
    store.client.hdel(store.keys.run(run.id), "deadline_us")

    with looks.nothing_changes(store):
        assert not store.runs.end_overdue(run.id)


def test_of_a_lease_that_is_lost_there_is_no_token(store, token):
    """The next one that takes it begins with the time, larger than any before."""
    run = steps.open_run(store, token, window_seconds=0.0)
    store.client.delete(store.keys.lease)

    assert store.runs.end_overdue(run.id)

    assert store.leases.acquire("standby", 60.0) > 1_000_000_000
