"""A run that the release loop takes over: its configuration, and its deadline."""

from __future__ import annotations

import pytest

from rlm.core.clock import system_clock
from rlm.core.run import State
from rlm.ledger.processes import Process, Role, WorkerState
from scheduler.release_loop import APART_SECONDS
from tests.store import looks, steps
from tests.values import replace

OLD = "of before"


@pytest.fixture
def take_over(store, conductor):
    """Take over a run that began with another configuration; return its release loop."""

    def take(**changes):
        token = conductor._leader.token
        run = replace(steps.make_run(store), revision=OLD, **changes)
        store.runs.open(token, run, store.known_types)
        steps.put_into(store, run, State.RUNNING)
        return steps.release_loop(store, conductor, run)

    return take


def test_ready_workers_of_another_configuration_are_told_of_once_and_are_what_events_wait_for(
    store, conductor, caplog, monkeypatch
):
    """They claim nothing: nothing is released to them, and it is said at once why, not that they do not come up."""
    steps.push(store, *steps.items(3, steps.TYPE))
    run = steps.start_run(store, conductor._leader.token)
    loop = steps.release_loop(store, conductor, run)
    store.processes.want(conductor._leader.token, 1)
    announce(store, "stranger", "another")
    store.processes.announce(Role.SUPERVISOR, Process("s", 1, "here", system_clock.now()))
    monkeypatch.setattr("scheduler.team.FIRST_PATIENCE_SECONDS", 0.0)

    for _ in range(2):
        loop._looked_at = float("-inf")
        loop._turn()

    why = "1 of another configuration claims nothing: restart what `rlm doctor` names"
    assert loop._team.shortage == f"no worker is ready of 1 wanted, and {why}"
    assert [one.message for one in caplog.records if hasattr(one, "alarm")] == [f"Run {run.id} lacks workers: {why}"]
    (waits,) = loop._waits.by_type.values()
    assert [str(one) for one in waits] == ["workers another configuration"]
    assert looks.counts(store).pending == 3


def look_around(loop, store):
    """Let the loop look around, as if the last look was long ago."""
    loop._looked_at = float("-inf")
    loop._look_around(looks.redis_us(store), store.ledger.count(store.known_types), {})


def announce(store, worker_id, revision):
    store.processes.announce(
        Role.WORKER,
        Process(
            id=worker_id, pid=1, host="here", started_at=0.0, state=WorkerState.READY, threads=5, revision=revision
        ),
    )


def test_a_run_of_another_configuration_is_left_to_its_workers_and_taken_up_when_they_are_gone(store, take_over):
    """Else nobody would claim anything until its deadline: the file was changed, and all was started anew."""
    loop, own = take_over(), store.settings.revision
    announce(store, "old", OLD)
    announce(store, "new", own)

    look_around(loop, store)
    assert (store.runs.current().revision, loop._lanes) == (OLD, 5)
    assert store.limits() == {}

    store.processes.forget(Role.WORKER, "old")
    look_around(loop, store)

    assert (store.runs.current().revision, loop._lanes) == (own, 5)
    assert store.limits() == {name: one.limit.text for name, one in store.settings.endpoints.items()}


def test_a_run_that_outlived_a_clock_that_was_set_back_gets_no_more_than_its_window(store, take_over):
    """By an hour, while nobody conducted: its deadline is an hour away, by the clock of Redis as by this one."""
    begun = steps.make_run(store)
    hour = {"deadline": begun.deadline + 3600, "deadline_us": begun.deadline_us + 3_600_000_000}
    loop = take_over(**hour)

    assert loop._deadline - system_clock.monotonic() <= begun.window_seconds
    assert begun.window_seconds + APART_SECONDS < 3600
