"""`rlm start`, `status`, `result`, `list`, `cancel`: runs by hand, with a scheduler and without."""

from __future__ import annotations

import json

import pytest

from rlm.ledger.processes import Role
from tests.wait import wait_until

pytestmark = pytest.mark.rest


def test_start_wait_that_is_killed_takes_its_supervisor_with_it(make_system):
    """KILL leaves no time to stop it: it ends by itself, with its workers, and signs off."""
    with make_system() as system:
        system.push_evenly(600)
        start = system.start("start", "start", "--wait")
        wait_until(system.answered, timeout=15, message="the run has begun")

        start.kill()

        wait_until(
            lambda: not system.store.processes.register().living(Role.SUPERVISOR),
            timeout=8,
            message="it has signed off",
        )
        assert system.store.processes.register().entries[Role.SUPERVISOR] == []


def test_start_wait_does_not_count_on_a_supervisor_that_was_killed_just_before(make_system):
    """Its entry stands for some seconds, and nobody would start a worker."""
    with make_system() as system:
        supervisor = system.start("supervisor")
        wait_until(lambda: system.store.processes.register().living(Role.SUPERVISOR), timeout=30, message="it is there")
        supervisor.kill()
        supervisor.wait()
        system.push_evenly(5)

        assert json.loads(system.rlm("start", "--wait", "--json").stdout)["counts"]["completed"] == 5


def test_a_worker_started_by_hand_works_beside_the_others(make_system):
    """`rlm worker start` alone carries a run, is listed, and leaves on TERM with what it has in hand done."""
    with make_system() as system:
        system.start("scheduler")
        system.start("worker", "worker", "start")
        wait_until(system.workers, timeout=30, message="the worker is ready")
        events = system.push_evenly(60)
        planned = json.loads(system.rlm("plan", "--count", f"{system.types[0]}=5000", "--json").stdout)
        listed = json.loads(system.rlm("worker", "list", "--json").stdout)
        wait_until(lambda: system.store.leases.read().holder, timeout=30, message="the scheduler leads")

        record = system.await_record(system.ask_for_run())

        assert [(one["state"], one["threads"], one["pid"]) for one in listed] == [
            ("ready", 5, system.processes["worker"].pid)
        ]
        assert record["counts"]["completed"] == 60
        assert (planned["workers"], record["plan"]["workers"]) == (1, 1), "nobody starts more"
        assert "starts any" not in system.log("scheduler")
        assert system.stop("worker") == 0
        assert not system.repeats()
        system.assert_promises(events, [record])
