"""The document of all hosts, from the register."""

from __future__ import annotations

import pytest

from rlm.admin.conditions import Scene, conditions
from rlm.admin.hosts import hosts
from rlm.admin.report import worker_list
from rlm.ledger.processes import Offer, Process, Role, WorkerState
from rlm.ledger.reading.present import present
from tests.store import steps


def process(process_id, **facts):
    return Process(id=process_id, pid=7, host=process_id.partition(":")[0], started_at=1_700_000_000.0, **facts)


@pytest.fixture
def say(store):
    """Let a process announce itself."""
    return lambda role, process_id, **facts: store.processes.announce(role, process(process_id, **facts))


def test_each_host_is_described_with_all_that_runs_there(store, say):
    """State, capacity, share, workers, lanes, scheduler."""
    store.client.hset(store.keys.processes, "wanted", 6)
    say(Role.SUPERVISOR, "a:1:x", offer=Offer(10, 0, 20))
    say(Role.SUPERVISOR, "b:1:x", offer=Offer(20, 0, 20))
    say(Role.WORKER, "b:1:x:1", state=WorkerState.READY, threads=5)
    say(Role.WORKER, "b:1:x:2", state=WorkerState.STARTING, threads=5)
    say(Role.SCHEDULER, "c:1:x")

    first, second, third = hosts(store)

    assert (first.host, first.state, first.capacity, first.share) == ("a", "ready", 10, 2)
    assert first.scheduler is None
    assert (second.share, second.workers, second.ready, second.lanes, second.busy) == (4, 2, 1, 10, 0)
    assert (third.scheduler, third.capacity, third.share) == ("standby", None, 0)
    assert (third.state, third.why) == ("unsupervised", None)


WHY = "it can connect to no endpoint: connection refused"


def test_a_host_whose_workers_sleep_says_so_and_why(store, say):
    """It is a condition of the host, and `rlm worker list` shows the worker."""
    say(Role.WORKER, "a:1:x:1", state=WorkerState.READY)
    say(Role.WORKER, "a:1:x:2", state=WorkerState.READY, sleeping=WHY)

    (found,) = hosts(store)
    scene = Scene(present(store), (), [found], {})
    (condition,) = [one for one in conditions(store, scene) if one.subject == "a"]

    assert (found.sleeping, found.state) == (1, "unsupervised")
    assert found.why == f"1 of 2 workers sleep: {WHY}"
    assert (condition.code, condition.severity) == ("worker_sleeps", "warning")
    assert condition.sentence == f"host a: {found.why}"
    assert [one.sleeping for one in worker_list(store)] == [None, WHY]


def test_a_host_that_is_heard_of_no_more_is_silent_until_its_death_is_reported(store, say):
    """Its supervisor did not sign off; one that did is no longer there."""
    for name in ("a:1:x", "b:1:x"):
        say(Role.SUPERVISOR, name, offer=Offer(20, 0, 20))
    steps.silence(store, Role.SUPERVISOR, "a:1:x")
    assert [(one.host, one.state) for one in hosts(store)] == [("a", "silent"), ("b", "ready")]

    assert hosts(store)[0].why == "its supervisor is not heard from, and did not sign off"

    store.processes.forget(Role.SUPERVISOR, "a:1:x")
    assert [one.host for one in hosts(store)] == ["b"]


def test_a_host_whose_supervisor_died_is_unsupervised_once_that_is_forgotten(store, say):
    """Its scheduler lives: the host is not lost, and takes no workers."""
    for role in (Role.SUPERVISOR, Role.SCHEDULER):
        say(role, "a:1:x", offer=Offer(20, 0, 20))
    steps.silence(store, Role.SUPERVISOR, "a:1:x")
    assert hosts(store)[0].state == "silent"

    store.processes.forget(Role.SUPERVISOR, "a:1:x")

    assert (hosts(store)[0].state, hosts(store)[0].capacity) == ("unsupervised", None)
