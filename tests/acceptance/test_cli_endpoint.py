"""`rlm endpoint`: list, pause, resume, change a limit, list the changes, on a real server."""

from __future__ import annotations

import pytest

from tests.acceptance.cli import Installation
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


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url, SECTIONS) as made:
        made.store.rules.publish_limits(made.token)
        yield made


# -- pause and resume


def test_resume_ends_a_rest_for_what_was_answered_but_not_a_held_window(inst):
    """It says which of them it did, and what stands."""
    one = inst.store.endpoints()["rebalance_api"]
    windows.rest(inst.store, one, 40)
    windows.hold(inst.store, one, 50)

    resumed = inst.json("endpoint", "resume", "rebalance_api")

    assert (resumed["name"], resumed["health"]) == ("rebalance_api", "held")
    assert 45 < resumed["circuit_seconds"] <= 50
    assert "is held for" in inst.rlm("endpoint", "resume", "rebalance_api").stdout


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
    assert [(one["name"], one["health"]) for one in paused] == [(name, "paused") for name in names]
    assert [name for name, circuit in circuits(inst).items() if circuit == "paused"] == names
    assert all(name in inst.rlm("endpoint", "resume", *which).stdout for name in names)
    assert set(circuits(inst).values()) == {"ok"}
    limited = inst.json("endpoint", "limit", *which, "2/minute")["endpoints"]
    assert [(one["name"], one["limit"]) for one in limited] == [(name, "2/minute") for name in names]


@pytest.mark.parametrize("which", [["rebalance_api", "nobody"], ["x*"], ["--type", "REBALANCE"], []])
def test_if_one_of_several_is_unknown_none_is_changed(inst, which):
    """A usage error that says where the names are."""
    with looks.nothing_changes(inst.store):
        assert "rlm endpoint list" in inst.rlm("endpoint", "pause", *which, code=2).stderr


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({}, "ok"),
        ({"rest": 50}, "resting"),
        ({"rest": 50, "pause": 90}, "paused"),
        ({"known": 50, "pause": 90}, "held"),
        ({"since": None}, "probing"),
        ({"since": None, "probe": 50}, "probing"),  # one is under way
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

    (explained,) = [each for each in inst.json("explain", f"i1:{steps.TYPE}")["endpoints"] if each["name"] == one.name]

    assert circuits(inst)[one.name] == word
    assert inst.json("status")["endpoints"][one.name]["health"] == word
    assert explained["health"] == word
