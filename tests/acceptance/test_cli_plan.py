"""`rlm plan`: the dry run for what waits now, and for given counts."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from rlm.core.item import type_of
from tests.acceptance.system import make_item
from tests.each import each
from tests.store import looks, steps
from tests.wait import wait_until

THIRD_TYPE = "BALANCE_CHECK_REQUIRED"


def events(plan):
    """Return the planned events by type, without types that have none."""
    return {name: part["events"] for name, part in plan["by_type"].items() if part["events"]}


def test_what_waits_is_planned_and_not_taken(inst):
    """Items on the audit list and in staging; nothing of it changes."""
    inst.store.client.lpush(inst.store.keys.processing, *steps.items(3, steps.OTHER_TYPE))
    inst.push(*steps.items(5, steps.TYPE, steps.OTHER_TYPE, first=10))

    with looks.nothing_changes(inst.store):
        found = inst.json("plan")

    assert events(found) == {steps.TYPE: 5, steps.OTHER_TYPE: 8}


def test_while_a_run_is_open_what_is_unsettled_is_planned(inst):
    """As if it all started now, wherever its events are."""
    inst.push(*steps.items(5, steps.TYPE))
    inst.start_run()
    claim = steps.claim(inst.store)
    steps.complete(inst.store, claim)
    steps.claim(inst.store)

    assert events(inst.json("plan")) == {steps.TYPE: 4}


# -- what if


def test_a_setting_is_planned_with_and_nothing_is_changed(inst):
    """Twice the limit lets twice the calls through, today's plan is what it was."""
    before = inst.json("plan", "--count", f"{steps.TYPE}=500")

    with looks.nothing_changes(inst.store):
        found = inst.json("plan", "--count", f"{steps.TYPE}=500", "--set", f"types.{steps.TYPE}.rate_limit=60/minute")

    assert (found["expected_leftover"], found["today"]) == (0, before)
    assert before["expected_leftover"] == 140


@each(
    ("args", "expected"),
    [
        (["--set", "run.tarjet=1"], "no such setting (did you mean 'run.target'?)"),
        (["--set", "run.target=2"], "--set: run.target = 2.0: must be a number above 0, at most 1"),
        (["--set", "types.REBALANCE_NEEDED.rate_limit=60"], '"60": must be a limit above zero'),
        (["--set", "types.NOBODY.rate_limit=60/minute"], "no such setting"),
        (["--set", "types.REBALANCE_NEEDED.rate_limit=-1/minute"], '"-1/minute": must be a limit above zero'),
        (
            ["--set", "workers.max=5", "--set", "workers.min=6"],
            "--set: workers.min = 6: must be at most max, which is 5",
        ),
        (["--add-endpoint", "REBALANCE_NEDED=x"], "did you mean 'REBALANCE_NEEDED'?"),
        (["--add-endpoint", "REBALANCE_NEEDED"], "is not TYPE=NAME"),
        (["--add-endpoint", "REBALANCE_NEEDED=rebalance_api"], "is an endpoint or a budget already"),
    ],
)
def test_a_wrong_what_if_is_a_usage_error(inst, args, expected):
    """The option, the key, the value and what is allowed, as for the file."""
    done = inst.rlm("plan", *args, code=2)

    assert expected in done.stderr
    assert done.stdout == ""


# -- what a run then does


def left_over(system):
    """Count and name the waiting events in the ledger by type and priority."""
    names = system.pending()
    return names, Counter((type_of(name), priority_of(system, name)) for name in names)


def priority_of(system, name):
    item = json.loads(looks.event(system.store, name)["item"])
    return item.get("priority", {steps.TYPE: 5, THIRD_TYPE: 1}[type_of(name)])


@pytest.mark.rest
def test_a_run_leaves_over_what_the_plan_said(make_system):
    """The lowest priority and in it the newest wait, by type; carried over, they go before what is new."""
    env = {"RLM_RUN__WINDOW_SECONDS": "5", "RLM_WORKERS__MIN": "6"}  # shorter than a period: each slot once
    with make_system(env=env) as system:
        system.start_both()
        wait_until(lambda: len(system.workers()) == 6, timeout=30, message="the workers are ready")
        events = system.push(
            [make_item(f"own{number}", steps.TYPE, THIRD_TYPE) for number in range(110)]
            + [make_item(f"low{number}", steps.TYPE, priority=1) for number in range(30)]
            + [make_item(f"high{number}", steps.TYPE, THIRD_TYPE, priority=9) for number in range(20)]
        )

        first_plan = plan_of(system)
        first_record = system.await_record(system.ask_for_run())
        names, counts = left_over(system)

        assert first_plan["expected_leftover"] == 50
        assert counts == {(steps.TYPE, 1): 30, (steps.TYPE, 5): 10, (THIRD_TYPE, 1): 10}
        newest = {f"own{number}:{name}" for name in (steps.TYPE, THIRD_TYPE) for number in range(100, 110)}
        assert names == newest | {f"low{number}:{steps.TYPE}" for number in range(30)}

        wait_until(lambda: all_open(system), timeout=15, message="all windows are open again")
        events += system.push([make_item(f"next{number}", steps.TYPE) for number in range(130)])
        second_plan = plan_of(system)
        second_record = system.await_record(system.ask_for_run())
        names, counts = left_over(system)

        assert second_plan["expected_leftover"] == 50
        assert counts == {(steps.TYPE, 1): 30, (steps.TYPE, 5): 20}
        assert {f"next{number}:{steps.TYPE}" for number in range(110, 130)} < names
        system.assert_promises(events, [first_record, second_record])


def plan_of(system, *args):
    return json.loads(system.rlm("plan", *args, "--json").stdout)


def all_open(system):
    endpoints = list(system.settings.endpoints.values())
    _, views = system.store.windows.look(endpoints)
    return all(views[one.name].free == one.limit.rules[0].amount for one in endpoints)
