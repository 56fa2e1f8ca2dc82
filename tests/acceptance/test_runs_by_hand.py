"""`rlm start`, `status`, `result`, `list`, `cancel`: runs by hand, with a scheduler and without."""

from __future__ import annotations

import json

import pytest

from rlm.ledger.processes import Role
from rlm.ledger.scripts import SOURCES, Script
from tests.wait import wait_until

pytestmark = pytest.mark.rest


def test_start_wait_that_is_killed_takes_its_supervisor_with_it(make_system):
    """KILL leaves no time to stop it: it ends by itself, with its workers, and signs off."""
    with make_system() as system:
        system.push_evenly(600)
        start = system.start("start", "start", "--wait")
        wait_until(system.answered, timeout=15, message="the run has begun")

        start.kill()

        wait_until(lambda: not system.store.processes.alive(Role.SUPERVISOR), timeout=8, message="it has signed off")
        assert system.store.processes.missing(Role.SUPERVISOR) == []


@pytest.mark.alone
def test_the_scheduler_takes_a_start_up_and_one_run_at_a_time(system):
    """`start` returns at once with the run's id; a second one is refused, naming the run; `cancel` closes it."""
    events = system.push_evenly(1500)
    started = json.loads(system.rlm("start", "--json").stdout)
    assert set(started) == {"run_id", "state"}
    wait_until(lambda: len(system.answered()) > 50, timeout=30, message="the run is in its middle")

    second = system.rlm("start", check=False)
    status = json.loads(system.rlm("status", "--json").stdout)
    shown = system.rlm("status")
    unfinished = system.rlm("result", started["run_id"], check=False)
    cancelled = json.loads(system.rlm("cancel", "--json").stdout)

    assert second.returncode == 1
    assert started["run_id"] in second.stderr
    assert status["run_id"] == started["run_id"]
    assert status["state"] == "running"
    assert 0 < status["seconds_left"] <= 18
    assert status["counts"]["taken"] == 1500
    assert "REBALANCE_NEEDED" in shown.stdout
    assert unfinished.returncode == 3
    assert cancelled["run_id"] == started["run_id"]
    assert cancelled["state"] == "cancelled"
    assert cancelled["counts"]["leftover"] > 0
    assert not system.repeats()
    system.assert_promises(events, [cancelled])
    assert json.loads(system.rlm("status", started["run_id"], "--json").stdout) == cancelled


def test_a_worker_started_by_hand_works_beside_the_others(make_system):
    """`rlm worker start` alone carries a run, is listed, and leaves on TERM with what it has in hand done."""
    with make_system() as system:
        system.start("scheduler")
        system.start("worker", "worker", "start")
        wait_until(system.workers, timeout=30, message="the worker is ready")
        events = system.push_evenly(60)
        planned = json.loads(system.rlm("plan", "--count", f"{system.types[0]}=5000", "--json").stdout)
        listed = json.loads(system.rlm("worker", "list", "--json").stdout)
        wait_until(system.store.leases.holder, timeout=30, message="the scheduler leads")

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


@pytest.mark.parametrize("name", ["scheduler", "supervisor"])
def test_a_run_finds_its_scripts_loaded(make_system, name):
    """Whoever comes up first loads them all, so that the first run after a start of Redis waits for none."""
    with make_system() as system:
        system.start(name)

        digests = [Script(script).sha for script in SOURCES]
        wait_until(lambda: all(system.store.client.script_exists(*digests)), message="all scripts are loaded")
