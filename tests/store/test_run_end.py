"""The end of a run: who may end it, its record of endpoints and budgets, and what it costs."""

from __future__ import annotations

import json

import pytest

from rlm.core.run import State
from rlm.delivery import run_end
from rlm.ledger.scripts import CHUNK
from tests.store import looks, steps
from tests.store.windows import stamps
from tests.values import replace


def close(store, token, run):
    steps.finish(store, token, run)
    return run_end.close_run(store, run.id)


def let_pass(store, seconds):
    """Let the deadline of the open run be so many seconds ago."""
    store.client.hset(store.keys.run, "deadline_us", store.now_us() - round(seconds * 1_000_000))


@pytest.mark.parametrize(("number", "state"), [(2, "ready"), (1, "inflight"), (1, "backoff")])
def test_nobody_but_the_conductor_ends_a_run_in_which_there_is_something_to_do(store, running, number, state):
    """Nor closes it."""
    run = running(number)
    claim = steps.claim(store)
    if state == "backoff":
        steps.fail(store, claim, "backoff", delay_us=5_000_000)

    with looks.nothing_changes(store):
        assert run_end.close_run(store, run.id) is None


@pytest.mark.parametrize(("seconds", "state"), [(0.0, None), (0.6, "partial"), (1.2, "failed")])
def test_a_lane_ends_a_run_that_is_overdue(store, running, seconds, state):
    """A moment after its deadline: until then results of calls that were cut still count. Much later it has failed."""
    run = running(2)
    steps.complete(store, steps.claim(store))
    let_pass(store, seconds)

    record = run_end.close_run(store, run.id)

    assert (record and record.state) == state
    if record:
        assert (record.counts.completed, record.counts.leftover) == (1, 1)
        assert store.runs.current() is None


@pytest.mark.parametrize("by_conductor", [False, True])
def test_whatever_is_unsettled_is_ready_again_in_its_place(store, token, running, by_conductor):
    """A call under way may have been sent: its slot counts from now, and it spent an attempt."""
    run = running(4)
    flying, waiting, spent = (steps.claim(store) for _ in range(3))
    steps.fail(store, waiting, "backoff", delay_us=60_000_000)
    steps.fail(store, spent, "spent")
    if not by_conductor:
        let_pass(store, 1.0)
    before = stamps(store, store.settings.endpoints[steps.ENDPOINT])[-1]

    record = close(store, token, run) if by_conductor else run_end.close_run(store, run.id)

    assert record.counts.leftover == 4
    assert looks.pending(store) == steps.event_ids(4)
    event = looks.event(store, flying.event_id)
    assert (event["tried"][0], event.get("deaths"), event.get("owner")) == ("1", None, None)
    assert stamps(store, store.settings.endpoints[steps.ENDPOINT])[-1] > before
    assert record.by_endpoint[steps.ENDPOINT].errors == 3
    with looks.nothing_changes(store, store.keys.held("worker-1"), store.keys.window(flying_window(store))):
        assert not steps.complete(store, flying)


def flying_window(store):
    return store.settings.endpoints[steps.ENDPOINT].window_id


def test_more_than_one_step_makes_ready_is_made_ready(store, token, running):
    """However many back off."""
    run = running(CHUNK + 1)
    far = {f"later {each}": store.now_us() + 60_000_000 for each in steps.event_ids(CHUNK + 1)}
    store.client.zadd(store.keys.due, far)
    store.client.delete(store.keys.ready(steps.TYPE))

    close(store, token, run)

    assert looks.counts(store).pending == CHUNK + 1


def test_what_was_marked_and_not_closed_is_closed(store, token, running):
    """Whoever ended the run died, and may have made only some of it ready."""
    run = running(2)
    steps.fail(store, steps.claim(store), "backoff", delay_us=60_000_000)
    steps.put_into(store, State.FINISHING)

    assert run_end.close_run(store, run.id).counts.leftover == 2


@pytest.mark.parametrize(("completed", "kept"), [(1, 3), (2, 1)])
def test_workers_stay_only_if_something_is_left_over(store, token, running, completed, kept):
    """The next run needs them again; else those leave that are not always there."""
    store.settings = replace(store.settings, workers=replace(store.settings.workers, min=1))
    run = running(2)
    for _ in range(completed):
        steps.complete(store, steps.claim(store))
    store.runs.note(token, run.id, plan=json.dumps({"workers": 3, "threads": 5}))

    close(store, token, run)

    assert store.processes.register().wanted == kept


def test_what_is_left_over_early_waited_for_what_keeps_it_then(store, token, running, monkeypatch):
    """Not for workers, which have come since the conductor looked, and made all the calls that the limit allows."""
    run = running(11)
    store.runs.note(token, run.id, waits=json.dumps({"until": run.started_at, "last": {steps.TYPE: "workers"}}))
    steps.complete(store, steps.claim(store))
    for endpoint in store.settings.event_types[0].endpoints:
        while not store.windows.take(endpoint):
            pass

    closed = []

    def another_closes(name):
        if name == "close.returned" and not closed:
            closed.append(None)
            closed[0] = run_end.close_run(store, run.id, token=token)

    monkeypatch.setattr(run_end, "crash_point", another_closes)

    assert run_end.close_run(store, run.id, token=token) is None
    (record,) = closed
    assert record.leftover_by_reason.slots == 10
    assert record.workers.peak == 1


def test_calls_of_earlier_runs_are_no_part_of_a_peak(store, token, running):
    """They still count in the window, for another record."""
    run = running(2)
    steps.complete(store, steps.claim(store))
    close(store, token, run)
    run = running(0)
    steps.complete(store, steps.claim(store))

    assert close(store, token, run).by_endpoint[steps.ENDPOINT].peak_in_window == 1


def test_a_run_closed_by_many_at_once_leaves_one_record(store, token, running):
    """Ten closers; each call under way is revoked once."""
    run = running(5)
    for _ in range(5):
        steps.claim(store)
    let_pass(store, 1.0)

    records = steps.at_once(*[lambda: run_end.close_run(store, run.id)] * 10)

    assert len([one for one in records if one]) == 1
    assert len(stamps(store, store.settings.endpoints[steps.ENDPOINT])) == 5
    assert {looks.event(store, one)["tried"][0] for one in steps.event_ids(5)} == {"1"}


def test_a_finishing_run_ends_as_it_would_have(store, token):
    """It is not marked."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)

    with looks.nothing_changes(store):
        assert not store.runs.cancel(run.id)


def test_a_run_whose_data_is_damaged_is_closed_as_failed(store, token, running):
    """However often its hash is read on the way: what is in it is told by its state alone."""
    run = running(1)
    store.client.hset(store.keys.run, "deadline_us", "soon")

    record = run_end.close_run(store, run.id, token=token, failure=store.runs.current().failure)

    assert (record.state, record.counts.leftover) == ("failed", 1)
