"""The end-of-run actor closes a run once, whoever else does, and its record."""

from __future__ import annotations

import json
import threading
from functools import partial

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from actors import messages
from actors.broker import WakingBroker
from actors.messages import QUEUE
from rlm.core.documents import TypeCounts
from rlm.core.run import State
from rlm.delivery.run_end import close_run
from tests.bench import FIRST, TYPE, Bench
from tests.wait import wait_until


@pytest.fixture
def bench(valkey_only_url, tmp_path):
    with Bench(valkey_only_url, tmp_path) as bench:
        yield bench


def test_a_run_is_closed_by_its_name():
    """On the stub: the actor hands the run's id on, and returns nothing that Dramatiq would have to keep."""
    broker = StubBroker(middleware=[])
    closed = []
    messages.declare(broker, messages.LEFTOVERS, lambda run_id: closed.append(run_id) or {"a": "record"})
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=20)
    worker.start()
    broker.enqueue(messages.message_for(messages.LEFTOVERS, "r1"))
    broker.join(QUEUE, fail_fast=True)
    worker.stop()

    assert closed == ["r1"]


def test_a_message_names_the_run_and_no_more():
    """No record, no count stands in the broker."""
    written = json.loads(messages.message_for(messages.LEFTOVERS, "r1").encode())

    assert (written["actor_name"], written["args"], written["kwargs"]) == ("record_leftovers", ["r1"], {})


def test_the_actor_records_what_was_left(bench):
    """On the real broker: a finishing run's unsettled events are leftovers, and its record is written."""
    bench.take(3)
    bench.carry()
    bench.release()
    bench.store.runs.advance(bench.token, bench.run_id, State.FINISHING)
    broker = WakingBroker(bench.store)
    messages.declare(broker, messages.LEFTOVERS, partial(close_run, bench.store))
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()

    broker.enqueue_many(
        [messages.message_for(messages.LEFTOVERS, bench.run_id), messages.message_for(messages.LEFTOVERS, bench.run_id)]
    )
    broker.wake()
    record = wait_until(lambda: bench.store.runs.record(bench.run_id), message="the record is written")
    broker.stop_fetching()
    worker.stop()
    broker.client.close()

    assert record.state == "partial"
    assert record.by_type[TYPE] == TypeCounts(taken=3, completed=1, leftover=2)
    assert record.by_endpoint[FIRST].calls == record.by_endpoint[FIRST].peak_in_window == 1
    assert bench.where() == {"pending": 2}
    assert bench.store.runs.current() is None
    assert bench.store.runs.history(10) == [bench.run_id]


def test_a_run_that_is_not_finishing_is_left_alone(bench):
    """A stray message closes neither a run that goes on nor one that is over or unknown."""
    bench.take(1)

    assert close_run(bench.store, bench.run_id) is None
    assert close_run(bench.store, "unknown") is None
    assert bench.store.runs.current().state is State.RUNNING
    assert bench.where() == {"pending": 1}


def test_of_many_that_close_a_run_one_does(bench):
    """The actor and the conductor at the same moment: one record, one entry in the history, the books balanced."""
    bench.take(20)
    bench.release(10)
    bench.store.runs.advance(bench.token, bench.run_id, State.FINISHING)
    records = []
    start = threading.Barrier(6)

    def close():
        start.wait(10)
        records.append(close_run(bench.store, bench.run_id))

    threads = [threading.Thread(target=close) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    (record,) = [one for one in records if one is not None]
    assert record == bench.store.runs.record(bench.run_id)
    assert bench.store.runs.history(10) == [bench.run_id]
    assert record.counts.taken == record.counts.leftover == 20
    assert bench.where() == {"pending": 20}
