"""note_end: what follows the end of a run is noted, for the last run only."""

from __future__ import annotations

from tests.store import looks, steps
from tests.values import record_from


def closed(store, token):
    """Open a run and close it; return its id."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)
    store.runs.close(run.id, record_from(), wanted=0)
    return run.id


def test_the_last_run_is_noted(store, token):
    """Whoever looked it over: a lane that closed it has no token."""
    last = closed(store, token)

    store.leases.note_end(last)

    assert store.leases.last_end() == last


def test_a_note_that_is_late_changes_nothing(store, token):
    """Else the next leader would look over a run again, and repeat its alarms."""
    first, last = closed(store, token), closed(store, token)
    store.leases.note_end(last)

    with looks.nothing_changes(store):
        store.leases.note_end(first)

    assert store.leases.last_end() == last


def test_an_emptied_redis_gets_no_lease_by_it(store, token):
    """It would have no token."""
    last = closed(store, token)
    store.client.delete(store.keys.lease)

    with looks.nothing_changes(store):
        store.leases.note_end(last)
