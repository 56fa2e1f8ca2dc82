"""`rlm plan`: the dry run for what waits now, and for given counts."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from rlm.core.clock import system_clock
from rlm.core.item import type_of
from rlm.core.run import Trigger
from rlm.delivery import run_end
from rlm.ledger.reading import waiting
from scheduler import ticks
from tests.acceptance.system import make_item
from tests.each import each
from tests.store import looks, steps, windows
from tests.values import record_from
from tests.wait import wait_until

THIRD_TYPE = "BALANCE_CHECK_REQUIRED"


def close_run(inst, run):
    """Close a run like the conductor, so that its measurements are kept."""
    steps.finish(inst.store, inst.token, run)
    assert run_end.close_run(inst.store, run.id)


def record_run(inst, run_id, record):
    """Keep the record of a run; the next one is older."""
    inst.store.client.hset(inst.store.keys.records, run_id, msgspec.json.encode(record))


def events(plan):
    """Return the planned events by type, without types that have none."""
    return {name: part["events"] for name, part in plan["by_type"].items() if part["events"]}


def test_counts_are_planned_on_windows_that_are_all_open(inst):
    """4 endpoints of 30 a minute: 120 at once, and in three minutes 360; what waits is not looked at."""
    inst.push(*steps.items(50, steps.TYPE))
    for endpoint in inst.settings.event_types[0].endpoints:
        windows.take(inst.store, endpoint, 30)

    fits, too_many = (inst.json("plan", "--count", f"{steps.TYPE}={number}") for number in (120, 500))

    assert events(fits) == {steps.TYPE: 120}
    assert fits["forecast_seconds"] < 60
    assert too_many["expected_leftover"] == 140
    assert too_many["fits"] is False


def test_a_limit_in_force_is_planned_with(inst):
    """One set by hand counts, not the file's."""
    for endpoint in inst.settings.event_types[0].endpoints:
        inst.store.client.hset(inst.store.keys.rules, f"limit {endpoint.window_id}", "10/minute")

    assert inst.json("plan", "--count", f"{steps.TYPE}=120")["expected_leftover"] == 0
    assert inst.json("plan", "--count", f"{steps.TYPE}=130")["expected_leftover"] == 10


@each(
    ("args", "expected"),
    [
        (["--count", "REBALANCE_NEDED=5"], "did you mean 'REBALANCE_NEEDED'?"),
        (["--count", "rebalance_needed=5"], "did you mean 'REBALANCE_NEEDED'?"),
        (["--count", "\x1b[2J=5"], "there are REBALANCE_NEEDED"),
        (["--count", "REBALANCE_NEEDED"], "is not TYPE=N"),
        (["--count", "REBALANCE_NEEDED=-1"], "is not TYPE=N"),
        (["--count", "REBALANCE_NEEDED=1.5"], "is not TYPE=N"),
        (["--count", "=5"], "is not TYPE=N"),
        (["--count", "REBALANCE_NEEDED=1", "--count", "REBALANCE_NEEDED=2"], "given twice"),
        (["--count", "REBALANCE_NEEDED=1000000000000001"], "at most 1,000,000,000,000,000 events"),
        (["--count", f"REBALANCE_NEEDED={'9' * 5000}"], "at most 1,000,000,000,000,000 events"),
        (["--workers", "0"], "--workers"),
        (["--workers", "-1"], "--workers"),
        (["--workers", "1001"], "--workers: 1,001: workers.max cannot be more than 1,000"),
        (["--workers", "many"], "--workers"),
    ],
)
def test_a_wrong_question_is_a_usage_error(inst, args, expected):
    """It names what is wrong and what is meant."""
    done = inst.rlm("plan", *args, code=2)

    assert expected in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stdout == ""


def test_what_waits_is_planned_and_not_taken(inst):
    """Items on the audit list and in staging; nothing of it changes."""
    inst.store.client.lpush(inst.store.keys.processing, *steps.items(3, steps.OTHER_TYPE))
    inst.push(*steps.items(5, steps.TYPE, steps.OTHER_TYPE, first=10))

    with looks.nothing_changes(inst.store):
        found = inst.json("plan")

    assert events(found) == {steps.TYPE: 5, steps.OTHER_TYPE: 8}


def test_leftovers_and_retried_letters_are_planned(inst):
    """They enter the next run as much as what is new."""
    inst.push(*steps.items(4, steps.TYPE))
    run = inst.start_run()
    claim = steps.claim(inst.store)
    steps.reject(inst.store, claim)
    inst.close_run(run)
    inst.rlm("failed", "retry", "--all")
    inst.push(*steps.items(2, steps.TYPE, first=10))

    assert events(inst.json("plan")) == {steps.TYPE: 6}


def test_while_a_run_is_open_what_is_unsettled_is_planned(inst):
    """As if it all started now, wherever its events are."""
    inst.push(*steps.items(5, steps.TYPE))
    inst.start_run()
    claim = steps.claim(inst.store)
    steps.complete(inst.store, claim)
    steps.claim(inst.store)

    assert events(inst.json("plan")) == {steps.TYPE: 4}


def test_at_most_the_oldest_items_are_read_and_that_is_said(inst, monkeypatch):
    """On stderr, so that the document stays one."""
    monkeypatch.setattr(waiting, "MOST_ITEMS", 200)
    inst.push(*steps.items(300, steps.TYPE))

    done = inst.rlm("plan", "--json")

    assert events(inst.json("plan")) == {steps.TYPE: 200}
    assert [inst.json("plan", *more)["unread"] for more in ([], ["--count", f"{steps.TYPE}=1"])] == [100, 0]
    assert "100 more" in done.stderr


def test_whoever_asks_while_a_run_is_open_is_told_that_the_plan_is_for_another_one(inst):
    """With its id."""
    inst.push(*steps.items(30, steps.TYPE))
    inst.close_run(inst.start_run())
    inst.push(*steps.items(360, steps.TYPE, first=100))
    run_id = ticks.open_run(inst.store, inst.token, Trigger.SCHEDULE, system_clock.now())
    run = inst.store.runs.current()
    steps.drain(inst.store, inst.token, run)

    told = inst.json("plan")
    shown = inst.rlm("plan").stdout

    assert told["open_run"] == run_id
    assert shown.startswith("A run is open (`rlm status`); this plans a new window of 3:00 min for what waits now.")
    inst.close_run(run)
    assert inst.json("plan")["open_run"] is None


# -- what if


def test_workers_stand_beside_today(inst):
    """The plan asked for is on top, today's is under a key of its own, both in the contract's shape."""
    found = inst.json("plan", "--count", f"{steps.TYPE}=500", "--workers", "1")

    assert found["workers"] == 1
    assert found["today"]["workers"] > 1
    assert set(found) - set(found["today"]) == {"today", "what_if"}
    assert found["what_if"] == {"settings": {}, "added_endpoints": [], "workers": 1}
    assert set(inst.json("plan", "--count", f"{steps.TYPE}=500")) == set(found["today"])


def test_a_setting_is_planned_with_and_nothing_is_changed(inst):
    """Twice the limit lets twice the calls through, today's plan is what it was."""
    before = inst.json("plan", "--count", f"{steps.TYPE}=500")

    with looks.nothing_changes(inst.store):
        found = inst.json("plan", "--count", f"{steps.TYPE}=500", "--set", f"types.{steps.TYPE}.rate_limit=60/minute")

    assert (found["expected_leftover"], found["today"]) == (0, before)
    assert before["expected_leftover"] == 140


def test_a_limit_that_is_told_counts_what_its_window_holds(inst):
    """30 calls of this minute leave 30 of 60, and all of them count in an hour."""
    inst.push(*steps.items(200, steps.TYPE))
    for endpoint in inst.settings.event_types[0].endpoints:
        windows.take(inst.store, endpoint, 30)

    def left_over(limit):
        told = f"types.{steps.TYPE}.rate_limit={limit}"
        return inst.json("plan", "--set", told)["expected_leftover"]

    assert left_over("60/minute") == 0
    assert left_over("31/hour") == 196


def test_an_added_endpoint_takes_its_share(inst):
    """It has the type's limit and an open window."""
    count = ["--count", f"{steps.TYPE}=500"]

    one = inst.json("plan", *count, "--add-endpoint", f"{steps.TYPE}=x")
    two = inst.json("plan", *count, "--add-endpoint", f"{steps.TYPE}=x", "--add-endpoint", f"{steps.TYPE}=y")

    assert (one["expected_leftover"], two["expected_leftover"]) == (50, 0)
    assert one["what_if"]["added_endpoints"] == [{"endpoint": "x", "rate_limit": "30/minute"}]
    endpoints = {release["endpoint"] for release in two["releases"]}
    assert {"x", "y"} <= endpoints


def test_what_was_measured_is_planned_with_unless_an_option_tells_otherwise(inst):
    """Calls that take twice as long as configured; an added endpoint is expected to be like its neighbours."""
    inst.push(*steps.items(40, steps.TYPE))
    run = inst.start_run()
    for _ in range(40):
        steps.complete(inst.store, steps.claim(inst.store), 4.0)
    close_run(inst, run)

    found = inst.json(
        "plan", "--count", f"{steps.TYPE}=5", "--set", f"types.{steps.TYPE}.processing_seconds=1", "--workers", "1"
    )

    assert found["today"]["forecast_seconds"] == pytest.approx(4.0, abs=0.1)
    assert found["forecast_seconds"] == pytest.approx(1.0, abs=0.1)


@each(
    ("args", "expected"),
    [
        (["--set", "run.target"], "is not KEY=VALUE"),
        (["--set", "run.tarjet=1"], "no such setting (did you mean 'run.target'?)"),
        (["--set", "run.target=2"], "--set: run.target = 2.0: must be a number above 0, at most 1"),
        (["--set", "types.REBALANCE_NEEDED.rate_limit=60"], '"60": must be a limit above zero'),
        (["--set", "types.NOBODY.rate_limit=60/minute"], "no such setting"),
        (["--set", "types.REBALANCE_NEEDED.rate_limit=-1/minute"], '"-1/minute": must be a limit above zero'),
        (["--set", "workers.max=5", "--set", "workers.min=6"], "must be at most workers.max, which is 5"),
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


# -- the windows to come


def test_the_last_line_says_when_the_backlog_is_gone(inst):
    """At what the last runs took since the first of them; nothing is said before a whole window is on record."""
    count = ["plan", "--count", f"{steps.TYPE}=500"]
    assert inst.json(*count)["gone_in_windows"] is None
    assert "arrivals" not in inst.rlm(*count).stdout
    started = datetime.now(UTC)
    for number, taken in enumerate((300, 300, 9999)):
        at = (started - number * timedelta(seconds=180)).isoformat()
        record_run(inst, f"run{number}", record_from(started_at=at, by_type={steps.TYPE: {"taken": taken}}))

    assert inst.json(*count)["gone_in_windows"] == 4
    assert inst.rlm(*count).stdout.endswith("\nAt the arrivals of the last runs the backlog is gone in 4 windows.\n")
    told = inst.rlm(*count, "--set", f"types.{steps.TYPE}.rate_limit=20/minute").stdout
    assert told.endswith("\nAt the arrivals of the last runs the backlog does not shrink.\n")


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
