"""`rlm doctor`: its findings, the remedies, its exit codes."""

from __future__ import annotations

import json

import pytest

from rlm.core.clock import system_clock
from rlm.ledger.processes import Process, Role, WorkerState
from tests.store import steps
from tests.values import replace
from tests.wait import wait_until


@pytest.fixture
def inst(inst):
    inst.store.leases.release(steps.CONDUCTOR)
    return inst


def findings(document):
    return {finding["name"]: finding for finding in document["findings"]}


def announce(inst, role, process_id="host:1:abc", **facts):
    """Register a living process, with the same configuration unless given another."""
    process = Process(process_id, 1, "host", system_clock.now(), revision=inst.settings.revision)
    inst.store.processes.announce(role, replace(process, **facts))


def test_an_installation_with_nothing_started_is_no_error(inst):
    """Exit 0; two warnings say what to start, everything else is fine."""
    document = inst.json("doctor")

    bad = [(one["name"], one["verdict"]) for one in document["findings"] if not one["ok"]]
    assert document["ok"] is True
    assert bad == [("scheduler", "warn"), ("supervisor", "warn")]
    assert all(one["remedy"] for one in document["findings"] if not one["ok"])
    assert {"name", "ok", "verdict", "severity", "message", "remedy"} == set(document["findings"][0])
    assert list(findings(document)) == [
        *("configuration", "redis.version", "redis.writes", "redis.eviction"),
        *("redis.persistence", "clock", "keys", "scheduler", "supervisor", "workers", "run"),
        *("endpoints", "books"),
    ]


def test_missing_workers_are_a_warning(inst):
    """Wanted, and not ready; those that have just been started are waited for without a warning."""
    inst.store.runs.want(inst.token, 3)
    announce(inst, Role.SUPERVISOR)
    announce(inst, Role.WORKER, state=WorkerState.READY)
    announce(inst, Role.WORKER, process_id="2", state=WorkerState.STARTING)

    found = findings(inst.json("doctor"))["workers"]
    inst.store.runs.want(inst.token, 2)

    assert found["verdict"] == "warn"
    assert findings(inst.json("doctor"))["workers"]["ok"]


def test_an_overdue_run_is_an_error(inst):
    """Exit 1: somebody has to close it."""
    inst.store.leases.acquire(steps.CONDUCTOR, 60)
    inst.token += 1
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run(window_seconds=1000)
    assert run.id in findings(inst.json("doctor"))["run"]["message"]
    inst.store.client.hset(inst.store.keys.run, "deadline_us", inst.store.now_us() - 60_000_000)

    found = findings(inst.json("doctor", code=1))["run"]

    assert found["verdict"] == "fail"
    assert "rlm cancel" in found["remedy"]


def test_a_leftover_that_is_gone_from_the_ledger_is_an_error(inst):
    """The record of the last run says how many are to be there; of a run before it nothing is to be."""
    inst.push(*steps.items(2, steps.TYPE))
    inst.close_run(inst.start_run())
    inst.close_run(inst.start_run())
    assert findings(inst.json("doctor"))["books"]["ok"]

    inst.store.client.zpopmin(inst.store.keys.ready(steps.TYPE))

    assert steps.TYPE in findings(inst.json("doctor", code=1))["books"]["message"]


def test_an_unfit_redis_is_exit_four(inst):
    """The remedy is told; what would follow from it is not looked at."""
    inst.store.client.config_set("maxmemory-policy", "allkeys-lru")
    inst.store.client.config_set("maxmemory", "200mb")
    try:
        document = inst.json("doctor", code=4)
    finally:
        inst.store.client.config_set("maxmemory-policy", "noeviction")
        inst.store.client.config_set("maxmemory", "0")

    assert document["ok"] is False
    assert findings(document)["redis.eviction"]["verdict"] == "fail"
    assert "noeviction" in findings(document)["redis.eviction"]["remedy"]
    assert "books" not in findings(document)


@pytest.mark.rest
def test_a_living_system_is_well_before_in_and_after_a_run(make_system):
    """Real processes: nothing to complain of."""
    with make_system(env={"RLM_RUN__WINDOW_SECONDS": "60"}) as system:  # for a busy machine to be done, too
        system.start_both()
        system.push_evenly(1500)
        before = json.loads(system.rlm("doctor", "--json").stdout)
        run_id = system.ask_for_run()
        wait_until(lambda: len(system.answered()) > 20, timeout=30, message="the run is in its middle")
        during = json.loads(system.rlm("doctor", "--json").stdout)
        system.await_record(run_id)
        after = json.loads(system.rlm("doctor", "--json").stdout)

    for document in (before, during, after):
        bad = {one["name"]: one["message"] for one in document["findings"] if not one["ok"]}
        assert bad.keys() <= {"workers"}, bad
    assert findings(during)["run"]["message"] == f"{run_id} is running"
