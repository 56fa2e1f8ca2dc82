"""close_run: a finishing run is closed once, by the first caller; its record is kept, its books are not."""

from __future__ import annotations

import pytest

from rlm.core.run import State
from tests.store import looks, steps
from tests.values import record_from

pytestmark = pytest.mark.both_servers

RECORD = record_from(run_id="r", state="completed")


def close(store, run, record=RECORD, types=(steps.TYPE,), wanted=0):
    return store.runs.close(run.id, record, store.runs.tally(), wanted=wanted)


def test_the_oldest_records_go(make_store, token):
    """The newest `run.history` are kept."""
    store, ids = make_store(run={"history": 2}), []
    for _ in range(4):
        run = steps.open_run(store, token)
        steps.finish(store, token, run)
        assert close(store, run) == 1
        ids.append(run.id)

    store.runs.trim()

    assert store.runs.history(10) == ids[:1:-1]
    assert store.client.hlen(store.keys.records) == 2


@pytest.mark.parametrize("state", ["inflight", "backoff", "spent"])
def test_a_run_with_something_unsettled_stays_open(store, token, running, state):
    """It must be made ready first: the books would not balance."""
    run = running(1)
    claim = steps.claim(store)
    if state != "inflight":
        steps.fail(store, claim, state, delay_us=60_000_000)
    steps.put_into(store, State.FINISHING)

    with looks.nothing_changes(store):
        assert close(store, run) is None

    steps.put_into(store, State.RUNNING)
    steps.finish(store, token, run)
    assert close(store, run) == 1


def test_what_was_taken_since_the_record_was_made_is_the_next_runs(store, token, running):
    """A letter was retried: its event would be missing from the books of this run and of the next."""
    run = running(1)
    steps.finish(store, token, run)
    before = store.runs.tally()
    store.client.hincrby(store.keys.tally, f"taken:{steps.TYPE}", 1)

    assert store.runs.close(run.id, RECORD, before, wanted=0) == 1

    assert store.runs.tally() == {f"taken:{steps.TYPE}": 1}


@pytest.mark.parametrize("field", ["taken:A", b"\xff"])
@pytest.mark.parametrize("value", ["1.5", "x", "9" * 30])
def test_a_count_that_rlm_does_not_write_keeps_no_run_open(store, token, running, field, value):
    run = running(1)
    steps.finish(store, token, run)
    store.client.hset(store.keys.tally, field, value)

    assert close(store, run) == 1

    assert store.runs.tally() == {}


@pytest.mark.parametrize("state", [State.DRAINING, State.PLANNING, State.RUNNING])
def test_a_run_that_is_not_finishing_stays_open(store, token, running, state):
    """It may still change."""
    run = running()
    steps.put_into(store, state)

    with looks.nothing_changes(store):
        assert close(store, run) == 0


def test_an_earlier_run_does_not_close_the_open_one(store, token, running):
    """An end-of-run actor that comes a whole run late writes no second record."""
    first = running()
    steps.finish(store, token, first)
    close(store, first)
    second = steps.open_run(store, token)
    steps.finish(store, token, second)

    with looks.nothing_changes(store):
        assert close(store, first) == 0


@pytest.mark.parametrize("settle", ["complete", "fail", "give_back"])
def test_no_later_answer_changes_the_record(store, token, running, settle):
    """Nor brings the books of the closed run back."""
    run = running(1)
    claim = steps.claim(store)
    steps.finish(store, token, run)
    close(store, run)
    late = {
        "complete": lambda: steps.complete(store, claim),
        "fail": lambda: steps.reject(store, claim, "no"),
        "give_back": lambda: steps.settle(store, claim, "ready"),
    }

    with looks.nothing_changes(store, store.keys.held("worker-1")):
        assert not late[settle]()
