"""The totals over all runs, with the open one at one instant."""

from __future__ import annotations

import pytest
import redis

from rlm.core.errors import StoreError
from rlm.core.tally import histograms
from rlm.core.trail import CallEnd
from rlm.ledger import calls
from rlm.ledger.measures import Totals
from tests.store.ledgers import ENDPOINT, TYPE, called, open_run


def complete(store, run_id, seconds=0.4, end=CallEnd.COMPLETED):
    called(store, ago=seconds, run_id=run_id, seconds=seconds, end=end)
    store.client.hincrby(store.keys.tally, f"{end}:{TYPE}", 1)


@pytest.mark.parametrize("size", [1, 2, 10_000])
def test_an_open_run_counts_as_it_goes(store, monkeypatch, size):
    """What it has done so far is in the totals: they do not wait for its end."""
    monkeypatch.setattr(calls, "SLICE", size)
    store.client.hset(store.keys.totals, f"completed:{TYPE}", 5)
    called(store, ago=30.0)  # of a run before
    run_id = open_run(store)
    assert store.totals.look() == {f"completed:{TYPE}": 5}

    for seconds in (0.4, 2.5, 0.1):
        complete(store, run_id, seconds)
    complete(store, run_id, end=CallEnd.ERROR)
    now = store.totals.look()

    assert now[f"completed:{TYPE}"] == 8
    calls_of = histograms(now, "call")[ENDPOINT]
    assert (calls_of.number, calls_of.seconds) == (3, 3.0)
    assert store.totals.look() == Totals(store).look() == now


def test_between_runs_only_the_totals_count(store):
    """Not the letters that were retried for the next run."""
    complete(store, open_run(store))
    assert store.totals.look()
    store.client.delete(store.keys.run, store.keys.tally)
    store.client.hset(store.keys.tally, f"taken:{TYPE}", 1)

    assert store.totals.look() == {}


def test_a_redis_that_came_back_as_it_was_counts_what_it_remembers(store):
    """The end of its file was cut off in mid-run: the calls it forgot do not count, those made anew do."""
    run_id = open_run(store)
    for _ in range(2):
        complete(store, run_id)
    assert histograms(store.totals.look(), "call")[ENDPOINT].number == 2
    (last,) = store.client.xrevrange(store.keys.calls, count=1)
    store.client.xdel(store.keys.calls, last[0])
    complete(store, run_id, 2.5)

    mine, anew = store.totals.look(), Totals(store).look()

    assert mine == anew
    assert histograms(mine, "call")[ENDPOINT].seconds == 2.9
    assert store.totals.look() == anew


def test_a_look_that_fails_in_the_middle_drops_nothing_and_counts_nothing_twice(store, monkeypatch):
    """Whatever was read before Redis failed is read again."""
    run_id = open_run(store)
    complete(store, run_id)
    store.totals.look()
    complete(store, run_id)
    whole = store.client.pipeline

    def lost(**options):
        pipeline = whole(**options)
        execute = pipeline.execute
        monkeypatch.setattr(pipeline, "execute", lambda: (execute(), fail())[1])
        return pipeline

    def fail():
        raise redis.ConnectionError("the answer was lost")

    monkeypatch.setattr(store.client, "pipeline", lost)
    for _ in range(2):
        with pytest.raises(StoreError):
            store.totals.look()
    monkeypatch.undo()

    assert store.totals.look() == Totals(store).look()
    assert histograms(store.totals.look(), "call")[ENDPOINT].number == 2
