"""Orders on a live system: pause, resume, limit, cancel, drop. Each test has types of its own on one system."""

from __future__ import annotations

import time

import pytest

from tests.blackbox.api import HANG
from tests.blackbox.system import LISTS, assert_books, until

pytestmark = pytest.mark.rest

TYPES = {
    "PACE": {"rate_limit": "1 per 1 second"},
    "PAUSED": {"rate_limit": "100/second"},
    "LOWER": {"rate_limit": "8 per 2 second"},
    "RAISE": {"rate_limit": "2/minute"},
    "SLOW": {"rate_limit": "2/minute"},
    "HANGS": {"rate_limit": "100/second", "endpoints": [{"name": "hangs", "timeout_seconds": 1.5}]},
}


@pytest.fixture(scope="module")
def system(shared):
    return shared(TYPES, run={"window_seconds": 20}).up()


@pytest.fixture
def run_id(system):
    """The id of a run that is open, as it has events enough until its deadline."""
    system.push_many(14, "PACE", start=f"pace-{time.monotonic()}")
    calls = len(system.api.calls)
    started = system.json("start")
    assert started["state"] in {"draining", "planning", "running"}
    system.calls_under_way(calls + 1)
    yield started["run_id"]
    if system.json("status")["state"] != "idle":
        system.rlm("cancel")
    system.rlm("queue", "drop", "--all", "--yes")


def push(system, run_id, *arguments, **fields):
    """Push events into the run: it ends, and a new one begins with them."""
    system.rlm("cancel", run_id)
    events = system.push_many(*arguments, **fields)
    return events, system.json("start")["run_id"]


def health(system, name):
    [end] = [end for end in system.json("endpoint", "list") if end["name"] == name]
    return end["health"]


def test_a_paused_endpoint_gets_no_call_until_it_is_resumed(system, run_id):
    system.rlm("endpoint", "pause", "paused")
    assert health(system, "paused") == "paused"
    paused, _ = push(system, run_id, 3, "PAUSED", start="p")
    others = len(system.api.of("pace"))
    until("the others go on", lambda: len(system.api.of("pace")) >= others + 2)
    assert system.api.of("paused") == []
    system.rlm("endpoint", "resume", "paused")
    until("it is called", lambda: set(paused) <= system.api.accepted())
    assert health(system, "paused") in {"ok", "full"}


def test_a_pause_ends_by_itself(system, run_id):
    begun = time.monotonic()
    system.rlm("endpoint", "pause", "paused", "--for", "2.5")
    [event], _ = push(system, run_id, 1, "PAUSED", start="for")
    until("it is called", lambda: system.api.of_event(event))
    assert system.api.of_event(event)[0].at - begun >= 2.4


def test_a_lowered_limit_holds_at_once_with_the_calls_made_before(system, run_id):
    push(system, run_id, 14, "LOWER", start="low")
    until("eight calls", lambda: len(system.api.of("lower")) == 8)
    system.rlm("endpoint", "limit", "lower", "3 per 2 second")
    changed = time.monotonic()
    until("all calls", lambda: len(system.api.of("lower")) == 14)
    times = [call.at for call in system.api.of("lower")]
    for moment in (moment for moment in times if moment > changed + 0.2):
        assert sum(moment - 2 < other <= moment for other in times) <= 3


def test_a_raised_limit_holds_at_once(system, run_id):
    push(system, run_id, 20, "RAISE", start="up")
    until("two calls", lambda: len(system.api.of("raise")) == 2)
    assert health(system, "raise") == "full"
    system.rlm("endpoint", "limit", "raise", "100/second")
    until("all calls", lambda: len(system.api.of("raise")) == 20, 5)
    [end] = [end for end in system.json("endpoint", "list") if end["name"] == "raise"]
    assert end["limit"] == "100/second"


def test_a_cancelled_run_awaits_calls_and_leaves_over_the_rest(system, run_id):
    system.api.say("hangs", HANG)
    system.rlm("cancel", run_id)
    system.rlm("queue", "drop", "--all", "--yes")
    [hanging] = system.push_many(1, "HANGS", start="c")
    system.push_many(10, "SLOW", start="c")
    run_id = system.json("start")["run_id"]
    until("calls are under way", lambda: system.api.of_event(hanging) and len(system.api.of("slow")) == 2)
    record = system.json("cancel")
    assert record["run_id"] == run_id
    assert record["state"] == "cancelled"
    assert record["counts"]["completed"] == 2
    assert record["counts"]["leftover"] == 9
    assert system.json("status")["state"] == "idle"
    assert system.json("queue", "stats")["leftover"] == 9
    assert len(system.api.of_event(hanging)) == 1
    system.rlm("cancel", code=3)


def test_a_second_run_is_refused_while_there_is_one(system, run_id):
    refused = system.rlm("start", code=1)
    assert run_id in refused.out + refused.err
    assert system.json("status")["run_id"] == run_id


def test_leftovers_are_listed_and_dropped(system, run_id):
    system.rlm("endpoint", "pause", "paused")
    _, run_id = push(system, run_id, 4, "PAUSED", start="d")
    until("they are taken", lambda: system.redis.llen(LISTS["events"]) == 0)
    system.rlm("cancel", run_id)
    system.rlm("queue", "drop", "--type", "PACE", "--yes")
    listed = system.rlm("queue", "list", "--json").out
    assert all(f"d-{n}:PAUSED" in listed for n in range(4))
    system.rlm("queue", "drop", "--wallet", "w1", "--yes", "--dry-run")
    assert system.json("queue", "stats")["leftover"] == 4
    system.rlm("queue", "drop", "--wallet", "w1", "--yes")
    assert system.json("queue", "stats")["leftover"] == 3
    system.rlm("queue", "drop", "--type", "PAUSED", "--yes")
    assert system.json("queue", "stats")["leftover"] == 0
    system.rlm("endpoint", "resume", "paused")


def test_no_limit_was_exceeded(system):
    del system.types["LOWER"], system.types["RAISE"]
    system.assert_calls()
    system.assert_limits(lower="8 per 2 second")
    for record in system.records():
        assert_books(record)


def test_a_limit_by_hand_holds_until_the_file_changes(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}}, run={"window_seconds": 3}).up()
    system.run()
    system.rlm("endpoint", "limit", "a", "2/minute")
    system.stop()
    system.up()
    system.push_many(5, "A")
    assert system.run()["counts"]["completed"] == 2
    system.types["A"]["rate_limit"] = "90/second"
    system.write()
    system.stop()
    system.up()
    assert system.run()["counts"]["completed"] == 3
