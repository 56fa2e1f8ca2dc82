"""`rlm endpoint`: list, pause, resume, change a limit, list the changes, on a real server."""

from __future__ import annotations

import os
import pwd
import socket

import pytest

from rlm.admin.endpoints import changes_made
from tests.acceptance.cli import Installation
from tests.each import each
from tests.store import looks, steps, windows

SECTIONS = """
[budgets.account]
rate_limit = "4/minute"
[types.REBALANCE_NEEDED]
priority = 5
rate_limit = "3/minute"
endpoints = [
    { name = "rebalance_api", url = "http://h/r", budget = "account" },
    { name = "overflow_rebalance_api_1", url = "http://h/o", budget = "account" },
]
[types.OPEN_ORDER_DETECTED]
rate_limit = "30/minute; 31/hour"
endpoints = [{ name = "open_order_api", url = "http://h/s" }]
"""
ME = f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url, SECTIONS) as made:
        made.store.publish_limits(made.token)
        yield made


def call(inst, name, number=1):
    """Take slots of an endpoint, like lanes."""
    windows.take(inst.store, inst.store.endpoints()[name], number)


def entry(inst, name=steps.ENDPOINT):
    """Return the list entry of an endpoint or budget."""
    return next(one for one in inst.json("endpoint", "list") if one["name"] == name)


# -- list


def test_the_list_has_endpoints_then_budgets_with_what_is_used_and_free(inst):
    """Slots of an endpoint are its budget's too, which leaves fewer free."""
    call(inst, "rebalance_api", 2)
    call(inst, "overflow_rebalance_api_1")

    listed = {one["name"]: one for one in inst.json("endpoint", "list")}

    assert list(listed) == ["rebalance_api", "overflow_rebalance_api_1", "open_order_api", "account"]
    assert {name: (one["used"], one["free"]) for name, one in listed.items()} == {
        "rebalance_api": (2, 1),
        "overflow_rebalance_api_1": (1, 1),
        "open_order_api": (0, 30),
        "account": (3, 1),
    }
    assert {one["health"] for one in listed.values()} == {"ok"}
    assert {one["next_slot_seconds"] for one in listed.values()} == {0}
    account = listed["account"]
    assert (account["kind"], account["types"], account["budget"]) == ("budget", [steps.TYPE], None)
    assert listed["rebalance_api"]["budget"] == "account"
    assert listed["rebalance_api"]["limit_by"] == "file"


def test_the_next_free_slot_is_told_where_none_is_free(inst):
    """Its budget's as well, though the endpoint itself has one."""
    call(inst, "rebalance_api", 3)
    call(inst, "overflow_rebalance_api_1")

    assert 55 < entry(inst)["next_slot_seconds"] <= 60.5
    overflow = entry(inst, "overflow_rebalance_api_1")
    assert (overflow["used"], overflow["free"]) == (1, 0)
    assert 55 < overflow["next_slot_seconds"] <= 60.5


def test_the_circuit_is_told_with_why_and_for_how_long(inst):
    """Throttled, failing, probing, held; the one of a budget too."""
    ends = inst.store.endpoints()
    windows.rest(inst.store, ends["rebalance_api"], 40)
    windows.rest(inst.store, ends["open_order_api"], 20)
    windows.set_record(inst.store, ends["open_order_api"], failures=5, failed_with="no answer in time")
    windows.hold(inst.store, ends["rebalance_api"].budget, 50)

    listed = {one["name"]: one for one in inst.json("endpoint", "list")}

    told = {name: (one["health"], one["circuit_reason"]) for name, one in listed.items()}
    assert told == {
        "rebalance_api": ("resting", "throttled"),
        "overflow_rebalance_api_1": ("ok", None),
        "open_order_api": ("resting", "failing: no answer in time"),
        "account": ("held", "its window cannot be trusted"),
    }
    assert 35 < listed["rebalance_api"]["circuit_seconds"] <= 40
    assert 45 < listed["account"]["circuit_seconds"] <= 50
    assert listed["open_order_api"]["failures"] == 5

    windows.pass_time(inst.store, ends["rebalance_api"], 41)
    assert entry(inst)["health"] == "probing"
    assert "probing" in inst.rlm("endpoint", "list").stdout

    windows.pass_time(inst.store, ends["open_order_api"], 21)
    assert entry(inst, "open_order_api")["health"] == "probing"
    assert entry(inst, "open_order_api")["circuit_reason"] == "failing: no answer in time"
    assert inst.json("endpoint", "resume", "open_order_api")["probing"]
    assert "the next call is a probe: open_order_api" in inst.rlm("endpoint", "resume", "open_order_api").stdout
    inst.store.client.delete(inst.store.keys.endpoint(ends["open_order_api"].window_id))
    assert entry(inst, "open_order_api")["circuit_reason"] is None


def test_a_paused_budget_is_told_at_its_endpoints(inst):
    """Their own circuits are closed; when the next slot is free, nobody knows."""
    inst.rlm("endpoint", "pause", "account")

    listed = inst.json("endpoint", "list")
    rows = inst.rlm("endpoint", "list").stdout.splitlines()

    waits = {one["name"]: one["next_slot_seconds"] for one in listed}
    assert waits == {"rebalance_api": None, "overflow_rebalance_api_1": None, "open_order_api": 0, "account": None}
    row = next(line for line in rows if line.startswith("rebalance_api "))
    assert row.endswith("  -         0  ok; its budget account is paused")
    assert any("budget of 1 type " in line for line in rows)


# -- pause and resume


def test_a_pause_ends_when_it_was_said_to(inst):
    """For so many seconds, by whom, since when, until when."""
    assert inst.json("endpoint", "pause", "rebalance_api", "--for", "30") == {
        "name": "rebalance_api",
        "paused_seconds": 30.0,
        "by": ME,
    }

    paused = entry(inst)
    assert (paused["health"], paused["paused_by"], paused["free"]) == ("paused", ME, 0)
    assert 25 < paused["circuit_seconds"] <= paused["next_slot_seconds"] + 1 <= 31
    assert paused["paused_at"] < paused["paused_until"]


def test_a_pause_without_an_end_lasts_until_resumed(inst):
    """Its next free slot is not known."""
    shown = inst.rlm("endpoint", "pause", "rebalance_api").stdout
    assert "until `rlm endpoint resume rebalance_api`" in shown
    paused = entry(inst)
    assert (paused["circuit_seconds"], paused["next_slot_seconds"], paused["paused_until"]) == (None, None, None)

    assert "No longer paused" in inst.rlm("endpoint", "resume", "rebalance_api").stdout

    assert (entry(inst)["health"], entry(inst)["paused_by"], entry(inst)["free"]) == ("ok", None, 3)
    assert "nothing was changed" in inst.rlm("endpoint", "resume", "rebalance_api").stdout


def test_resume_ends_a_rest_for_what_was_answered_but_not_a_held_window(inst):
    """It says which of them it did, and what stands."""
    one = inst.store.endpoints()["rebalance_api"]
    windows.rest(inst.store, one, 40)
    windows.hold(inst.store, one, 50)

    resumed = inst.json("endpoint", "resume", "rebalance_api")

    assert 45 < resumed.pop("held_seconds") <= 50
    assert resumed == {"name": "rebalance_api", "paused": False, "rested": True, "probing": False}
    assert "is held for another" in inst.rlm("endpoint", "resume", "rebalance_api").stdout


# -- limit


def test_a_limit_is_set_and_what_was_is_told(inst):
    """It holds until the file's value changes, is listed with by whom, and reads like the file's."""
    shown = inst.rlm("endpoint", "limit", "rebalance_api", "1 per  0.5 second ; 2/minute").stdout

    assert "was 3/minute and is 1 per 0.5 second ; 2/minute from now on" in shown
    assert "until the file's value changes" in shown
    listed = entry(inst)
    assert (listed["limit"], listed["limit_by"]) == ("1 per 0.5 second ; 2/minute", ME)
    inst.store.publish_limits(inst.token)
    assert entry(inst)["limit"] == "1 per 0.5 second ; 2/minute"


@each("rate", ["0/minute", "5", "5/fortnight", "5 per 0 second", "5/minute;", ""])
def test_a_limit_that_the_file_may_not_have_is_refused(inst, rate):
    """The value is named, and what is allowed; nothing is changed."""
    with looks.nothing_changes(inst.store):
        told = inst.rlm("endpoint", "limit", "rebalance_api", rate, code=2).stderr

    assert repr(rate) in told
    assert "30/minute" in told


# -- names and records


# -- several at once


def circuits(inst):
    return {one["name"]: one["health"] for one in inst.json("endpoint", "list")}


@pytest.mark.parametrize(
    "which",
    [
        ["rebalance_api", "overflow_rebalance_api_1"],
        ["*rebalance_*"],
        ["--type", steps.TYPE],
        ["rebalance_api", "over*", "--type", steps.TYPE],
    ],
)
def test_several_are_changed_at_once(inst, which):
    """Those named, a type's, or all endpoints that match a pattern; a budget is only ever named."""
    names = ["rebalance_api", "overflow_rebalance_api_1"]

    paused = inst.json("endpoint", "pause", *which, "--for", "10m")["endpoints"]
    assert [(one["name"], one["paused_seconds"]) for one in paused] == [(name, 600.0) for name in names]
    assert [name for name, circuit in circuits(inst).items() if circuit == "paused"] == names
    assert all(name in inst.rlm("endpoint", "resume", *which).stdout for name in names)
    assert set(circuits(inst).values()) == {"ok"}
    limited = inst.json("endpoint", "limit", *which, "2/minute")["endpoints"]
    assert [(one["name"], one["from"], one["to"]) for one in limited] == [(n, "3/minute", "2/minute") for n in names]


@pytest.mark.parametrize("which", [["rebalance_api", "nobody"], ["x*"], ["--type", "REBALANCE"], []])
def test_if_one_of_several_is_unknown_none_is_changed(inst, which):
    """A usage error that says where the names are."""
    with looks.nothing_changes(inst.store):
        assert "rlm endpoint list" in inst.rlm("endpoint", "pause", *which, code=2).stderr


def test_the_changes_are_recorded_newest_first(inst):
    """Whoever made them; as many as are asked for. That the file's limits were published is no change."""
    assert changes_made(inst.store, 3) == []
    inst.rlm("endpoint", "limit", "rebalance_api", "5/minute", "--reason", " a bigger\nplan")
    inst.rlm("endpoint", "pause", "account", "--for", "9.5")

    assert len(changes_made(inst.store, 1)) == 1
    newest, before = changes_made(inst.store, 3)

    assert newest.at > before.at
    assert (newest.by, newest.name, newest.what, newest.before, newest.after) == (ME, "account", "pause", None, "9.5 s")
    assert (before.name, before.before, before.after) == ("rebalance_api", "3/minute", "5/minute")
    assert (before.by, before.what, before.reason) == (ME, "limit", "a bigger plan")


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({}, "ok"),
        ({"rest": 50}, "resting"),
        ({"rest": 50, "pause": 90}, "paused"),
        ({"hold": 50, "pause": 90}, "held"),
        ({"since": None}, "probing"),
    ],
)
def test_every_face_has_the_same_word_for_a_state(inst, state, word):
    """List, status, explanation and metrics, also where an endpoint is held and paused."""
    one = inst.settings.endpoints["rebalance_api"]
    inst.push(*steps.items(1, steps.TYPE))
    inst.start_run()
    now_us = inst.store.now_us()
    told = {name: 1 if left is None else now_us + left * 1_000_000 for name, left in state.items()}
    if told:
        windows.set_record(inst.store, one, **told)

    (explained,) = [
        each for each in inst.json("explain", f"i1:{steps.TYPE}")["endpoints"] if each["endpoint"] == one.name
    ]

    assert entry(inst)["health"] == word
    assert inst.json("status")["by_endpoint"][one.name]["health"] == word
    assert explained["health"] == word
