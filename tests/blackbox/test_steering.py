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


@pytest.fixture(autouse=True)
def _nothing_is_left(system):
    yield
    if system.json("status")["state"] != "idle":
        system.rlm("cancel", code=None)
    system.rlm("queue", "drop", "--all", "--yes")


def begin(system, count, kind, start):
    """Start a run with these events, and others enough to keep it open; return their ids and that of the run."""
    system.push_many(14, "PACE", start=f"pace-{start}")
    events = system.push_many(count, kind, start=start)
    started = system.json("start")
    assert started["state"] in {"draining", "planning", "running"}
    return events, started["run_id"]


def health(system, name):
    [end] = [end for end in system.json("endpoint", "list") if end["name"] == name]
    return end["health"]


def test_a_paused_endpoint_gets_no_call_until_it_is_resumed(system):
    system.rlm("endpoint", "pause", "paused")
    assert health(system, "paused") == "paused"
    paused, _ = begin(system, 3, "PAUSED", "p")
    others = len(system.api.of("pace"))
    until("the others go on", lambda: len(system.api.of("pace")) >= others + 2)
    assert system.api.of("paused") == []
    system.rlm("endpoint", "resume", "paused")
    until("it is called", lambda: set(paused) <= system.api.accepted())
    assert health(system, "paused") in {"ok", "full"}


def test_a_pause_ends_by_itself(system):
    begun = time.monotonic()
    system.rlm("endpoint", "pause", "paused", "--for", "2.5")
    [event], _ = begin(system, 1, "PAUSED", "for")
    until("it is called", lambda: system.api.of_event(event))
    assert system.api.of_event(event)[0].at - begun >= 2.4


def test_a_lowered_limit_holds_at_once_with_the_calls_made_before(system):
    begin(system, 14, "LOWER", "low")
    until("eight calls", lambda: len(system.api.of("lower")) == 8)
    system.rlm("endpoint", "limit", "lower", "3 per 2 second")
    changed = time.monotonic()
    until("all calls", lambda: len(system.api.of("lower")) == 14)
    times = [call.at for call in system.api.of("lower")]
    for moment in (moment for moment in times if moment > changed + 0.2):
        assert sum(moment - 2 < other <= moment for other in times) <= 3


def test_a_raised_limit_holds_at_once(system):
    begin(system, 20, "RAISE", "up")
    until("two calls", lambda: len(system.api.of("raise")) == 2)
    assert health(system, "raise") == "full"
    system.rlm("endpoint", "limit", "raise", "100/second")
    until("all calls", lambda: len(system.api.of("raise")) == 20, 5)
    [end] = [end for end in system.json("endpoint", "list") if end["name"] == "raise"]
    assert end["limit"] == "100/second"


def test_a_cancelled_run_awaits_calls_and_leaves_over_the_rest(system):
    system.api.say("hangs", HANG)
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


def test_a_second_run_is_refused_while_there_is_one(system):
    _, run_id = begin(system, 1, "PAUSED", "two")
    refused = system.rlm("start", code=1)
    assert run_id in refused.out + refused.err
    assert system.json("status")["run_id"] == run_id


def test_leftovers_are_listed_and_dropped(system):
    system.rlm("endpoint", "pause", "paused")
    _, run_id = begin(system, 4, "PAUSED", "d")
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
