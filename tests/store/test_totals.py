"""The totals over all runs, with the open one at one instant."""

from __future__ import annotations

from tests.store.ledgers import TYPE, open_run


def test_an_open_run_counts_as_it_goes(store):
    """What it has done so far is in the totals: they do not wait for its end."""
    store.client.hset(store.keys.totals, f"completed:{TYPE}", 5)
    open_run(store)
    assert store.totals.look() == {f"completed:{TYPE}": 5}

    store.client.hincrby(store.keys.tally, f"completed:{TYPE}", 3)

    assert store.totals.look() == {f"completed:{TYPE}": 8}


def test_between_runs_only_the_totals_count(store):
    """Not the letters that were retried for the next run."""
    store.client.hset(store.keys.tally, f"taken:{TYPE}", 1)

    assert store.totals.look() == {}
