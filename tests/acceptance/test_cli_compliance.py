"""`rlm compliance`: whether the limits were kept, from the log of calls on a real server."""

from __future__ import annotations

from datetime import datetime

import pytest

from rlm.core.clock import isoformat
from tests.acceptance.cli import Installation
from tests.store import steps
from tests.store.ledgers import called

SECTIONS = """
[budgets.account]
rate_limit = "40/minute"
[types.REBALANCE_NEEDED]
endpoints = [{ name = "rebalance_api", url = "http://h/r", rate_limit = "30/minute; 5/second", budget = "account" },
             { name = "overflow_rebalance_api_1", url = "http://h/o", rate_limit = "30/minute", budget = "account" }]
"""
SECOND = 1_000_000


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url, SECTIONS) as made:
        yield made


def put(inst, name, *ago_seconds):
    """Let calls of an endpoint be in the log, this long ago, the oldest first; return when they were sent."""
    return [called(inst.store, name, ago, seconds=0.001) for ago in ago_seconds]


def judge(inst, *args, code=0):
    return inst.json("compliance", *args, code=code)


def test_an_exceeded_limit_exits_with_1_and_says_which_and_when(inst):
    """Of two rules only the one."""
    put(inst, steps.OVERFLOW, 86_399.0)
    stamps = put(inst, steps.ENDPOINT, 100.9, 100.8, 100.7, 100.6, 100.5, 100.4, 50)

    found = judge(inst, code=1)
    done = inst.rlm("compliance", code=1)

    minute, second = found["by_endpoint"][steps.ENDPOINT]["rules"]
    assert not found["ok"]
    assert (minute["most"], minute["exceeded"]) == (7, False)
    assert (second["most"], second["exceeded"]) == (6, True)
    assert second["at"].startswith(isoformat(stamps[5] / SECOND)[:19])
    assert "EXCEEDED" in done.stdout
    assert f": {steps.ENDPOINT}.\n" in done.stdout


def test_a_budget_is_judged_by_its_own_slots(inst):
    """Each endpoint kept its limit, together they did not."""
    for index in reversed(range(25)):
        put(inst, steps.ENDPOINT, 2.0 + 1.1 * index)
        put(inst, steps.OVERFLOW, 1.5 + 1.1 * index)

    found = judge(inst, code=1)

    exceeded = [name for name, one in found["by_endpoint"].items() if any(rule["exceeded"] for rule in one["rules"])]
    assert exceeded == ["account"]


def seconds_before(found, key):
    """How long before the look a moment in its document was."""
    moments = [datetime.fromisoformat(found[one]) for one in ("until", key)]
    return (moments[0] - moments[1]).total_seconds()


def test_nothing_is_promised_of_what_redis_forgot(inst):
    """From when its windows could not be trusted on, and why, is said instead; what is still there is judged."""
    doubt = {"doubted_us": inst.store.now_us(), "doubt": "Redis has forgotten calls"}
    inst.store.client.hset(inst.store.keys.lease, mapping=doubt)
    put(inst, steps.ENDPOINT, *[300.0] * 6)

    found = judge(inst, code=1)

    assert 0 <= seconds_before(found, "known_from") < 60
    assert "Calls before 20" in inst.rlm("compliance", code=1).stdout


def test_a_limit_changed_meanwhile_judges_what_came_after_it(inst):
    """Twenty calls under the old limit were right, and stay so under the new one of two."""
    inst.store.rules.publish_limits(inst.token)
    overflow = inst.settings.endpoints[steps.OVERFLOW]
    put(inst, steps.OVERFLOW, *[0.01] * 20)
    inst.store.rules.limit(overflow, "2/minute", "somebody")

    before = judge(inst)
    put(inst, steps.OVERFLOW, 0.0)
    after = judge(inst, code=1)

    (minute,) = before["by_endpoint"][steps.OVERFLOW]["rules"]
    assert (minute["amount"], minute["most"], minute["exceeded"]) == (2, 0, False)
    assert after["by_endpoint"][steps.OVERFLOW]["rules"][0]["exceeded"]
