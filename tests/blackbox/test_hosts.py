"""Several hosts, as supervisors with names of their own on one Redis; several schedulers; several files."""

from __future__ import annotations

import json
import time

import pytest

from tests.blackbox.api import Answer
from tests.blackbox.system import kill, until

pytestmark = pytest.mark.rest


def test_two_hosts_share_the_work_and_the_limits(fresh):
    types = {"A": {"rate_limit": "12 per 1 second", "endpoints": ["a", "a_2"], "processing_seconds": 0.4}}
    workers = {"min": 2, "max": 4, "threads": 2}
    system = fresh(types, run={"window_seconds": 7, "every_seconds": 7}, workers=workers)
    for path in ("a", "a_2"):
        system.api.say(path, Answer(delay=0.4))
    system.spawn("scheduler", RLM_HOST__NAME="one")
    system.spawn("supervisor", RLM_HOST__NAME="one")
    two = system.spawn("supervisor", RLM_HOST__NAME="two")
    until("both hosts have workers", lambda: {worker["host"] for worker in system.workers()} == {"one", "two"})
    system.push_many(60, "A")
    system.calls_under_way(20)
    assert len(system.workers()) <= 4
    kill(two, family=True)  # the host vanishes
    system.assert_promises()
    until("one has all workers", lambda: {worker["host"] for worker in system.workers()} == {"one"})


def test_a_host_takes_no_more_workers_than_it_may(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}}, workers={"min": 3, "max": 3})
    system.spawn("scheduler")
    system.spawn("supervisor", RLM_HOST__NAME="small", RLM_WORKERS__MAX_HERE="1")
    system.spawn("supervisor", RLM_HOST__NAME="large", RLM_WORKERS__MAX_HERE="2")
    workers = until("three workers", lambda: len(found := system.workers()) == 3 and found)
    assert sorted(worker["host"] for worker in workers) == ["large", "large", "small"]


def test_one_of_two_schedulers_conducts(fresh):
    types = {"NEXT": {"priority": 9, "rate_limit": "100/second"}, "A": {"rate_limit": "5 per 1 second"}}
    system = fresh(types, run={"window_seconds": 4, "every_seconds": 4}).up()
    system.spawn("scheduler")
    system.push_many(30, "A")
    system.assert_promises()
    assert len({record["started_at"] for record in system.records()}) == len(system.records())


def test_workers_of_another_configuration_claim_nothing(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}}, run={"window_seconds": 3})
    system.spawn("scheduler")
    other = system.directory / "other.toml"
    other.write_text(system.file.read_text().replace("processing_seconds = 0.1", "processing_seconds = 0.2"))
    wrong = system.spawn("supervisor", "--config", str(other))
    until("a worker", system.workers)
    system.push_many(3, "A")
    system.json("start")
    until("the run is closed", lambda: system.redis.llen("wallet_audit_events") == 0
          and system.json("status")["state"] == "idle")  # fmt: skip
    assert system.api.calls == []
    wrong.terminate()
    wrong.wait(10)
    system.spawn("supervisor")
    until("those of the right one do it", lambda: system.run(code=None)["counts"]["leftover"] == 0, 30)
    assert len(system.api.calls) == 3


def test_two_files_in_use_on_one_prefix_are_a_condition(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}}).up()
    until("a worker", system.workers)
    other = system.directory / "other.toml"
    other.write_text(system.file.read_text().replace("/a", "/elsewhere"))
    before = {condition["code"] for condition in system.json("doctor", code=None)["conditions"]}
    system.spawn("scheduler", "--config", str(other))

    def named():
        conditions = system.json("doctor", code=None)["conditions"]
        return next((condition for condition in conditions if condition["code"] not in before), None)

    condition = until("it is named", named, 10)
    shown = json.dumps(condition)
    assert "rlm.toml" in shown
    assert "other.toml" in shown
    system.push_many(1, "A")
    assert system.run()["counts"]["completed"] == 1
    assert [call.path for call in system.api.calls] == ["a"]


def test_workers_leave_after_a_run(fresh):
    types = {"A": {"rate_limit": "100/second", "processing_seconds": 0.5}}
    system = fresh(types, run={"window_seconds": 6}, workers={"min": 0, "max": 3, "threads": 2}).up()
    system.api.say("a", Answer(delay=0.5))
    system.push_many(30, "A")
    record = system.run()
    closed = time.monotonic()
    assert record["counts"]["completed"] == 30
    assert record["workers"]["peak"] >= 2
    until("no worker is left", lambda: system.json("worker", "list") == [], 8)
    assert time.monotonic() - closed <= 8
