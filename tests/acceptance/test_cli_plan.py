"""`rlm plan`: the dry run for what waits now, and for given counts."""

from __future__ import annotations

import re

import pytest

from rlm import backlog
from rlm.event import Reason
from tests.acceptance.cli import Installation
from tests.store import looks, steps

THIRD_TYPE = "BALANCE_CHECK_REQUIRED"


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url) as made:
        yield made


def events(plan):
    """The events planned for, by type, but types without any."""
    return {name: part["events"] for name, part in plan["by_type"].items() if part["events"]}


def test_a_plan_has_the_keys_of_the_contract(inst):
    """Every configured type is in it; releases say when, where and how many."""
    found = inst.json("plan", "--count", f"{steps.TYPE}=200")

    assert {"workers", "threads", "forecast_seconds", "lower_bound_seconds", "expected_leftover", "fits"} <= set(found)
    assert list(found["by_type"]) == [one.name for one in inst.settings.event_types]
    assert sum(one["events"] for one in found["releases"]) == 200
    assert set(found["releases"][0]) == {"at_seconds", "endpoint", "events"}
    assert found["fits"] is True
    assert found["lower_bound_seconds"] <= found["forecast_seconds"]


def test_counts_are_planned_on_windows_that_are_all_open(inst):
    """4 endpoints of 30 a minute: 120 at once, and in three minutes 360; what waits is not looked at."""
    inst.push(*steps.items(50, steps.TYPE))
    for endpoint in inst.settings.event_types[0].endpoints:
        for _ in range(30):
            inst.store.windows.acquire(endpoint)

    fits, too_many = (inst.json("plan", "--count", f"{steps.TYPE}={number}") for number in (120, 500))

    assert events(fits) == {steps.TYPE: 120}
    assert fits["forecast_seconds"] < 60
    assert too_many["expected_leftover"] == 140
    assert too_many["fits"] is False


def test_several_counts_are_planned_together(inst):
    """The option is repeatable; a type that is not named has none."""
    found = inst.json(
        "plan", "--count", f"{steps.TYPE}=40", "--count", f"{THIRD_TYPE}=0", "--count", "OPEN_ORDER_DETECTED=7"
    )

    assert events(found) == {steps.TYPE: 40, "OPEN_ORDER_DETECTED": 7}


def test_a_limit_in_force_is_planned_with(inst):
    """One set by hand counts, not the file's."""
    for endpoint in inst.settings.event_types[0].endpoints:
        inst.store.client.hset(inst.store.keys.limits, endpoint.name, "10/minute")

    assert inst.json("plan", "--count", f"{steps.TYPE}=120")["expected_leftover"] == 0
    assert inst.json("plan", "--count", f"{steps.TYPE}=130")["expected_leftover"] == 10


def test_workers_fix_the_number(inst):
    """More or fewer than the settings allow: it is a what-if."""
    count = ["--count", f"{steps.TYPE}=120"]

    few, many = (inst.json("plan", *count, "--workers", number) for number in ("1", "24"))

    assert (few["workers"], many["workers"]) == (1, 24)
    assert few["forecast_seconds"] == pytest.approx(48, rel=0.05)
    assert many["forecast_seconds"] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
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
        (["--workers", "0"], "--workers"),
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
    claim = steps.claim_next(inst.store, inst.token, run)
    inst.store.ledger.fail(claim, Reason.REJECTED, "no", steps.ENDPOINT, 0.1)
    inst.close_run(run)
    inst.rlm("failed", "retry", "--all")
    inst.push(*steps.items(2, steps.TYPE, first=10))

    assert events(inst.json("plan")) == {steps.TYPE: 6}


def test_while_a_run_is_open_what_is_unsettled_is_planned(inst):
    """As if it all started now, wherever its events are."""
    inst.push(*steps.items(5, steps.TYPE))
    run = inst.start_run()
    claim = steps.claim_next(inst.store, inst.token, run)
    inst.store.ledger.complete(claim, steps.ENDPOINT, 0.1)
    steps.claim_next(inst.store, inst.token, run)

    assert events(inst.json("plan")) == {steps.TYPE: 4}


def test_duplicates_and_bad_items_are_not_planned_for(inst):
    """Neither what the ledger knows, settled or not, nor what comes twice; a person is told how many."""
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run()
    inst.store.ledger.complete(steps.claim_next(inst.store, inst.token, run), steps.ENDPOINT, 0.1)
    inst.close_run(run)
    inst.push(*steps.items(3, steps.TYPE), *steps.items(3, steps.TYPE), b"bad", steps.item("i9", "NOBODY_KNOWS"))

    assert events(inst.json("plan")) == {steps.TYPE: 2}
    assert "Not planned for: 2 dead letters and 5 duplicates" in inst.rlm("plan").stdout


def test_events_of_a_former_type_are_not_planned_for(inst):
    """A run makes dead letters of them."""
    inst.store.client.sadd(inst.store.keys.types, "FORMER")
    inst.store.client.zadd(inst.store.keys.pending("FORMER"), {"i1:FORMER": 1, "i2:FORMER": 2})

    assert events(inst.json("plan")) == {}
    assert "2 dead letters" in inst.rlm("plan").stdout


def test_what_waits_is_planned_on_the_windows_as_they_are(inst):
    """Slots that are taken open a period later; the fresh plan of the same counts knows nothing of them."""
    inst.push(*steps.items(10, steps.TYPE))
    for endpoint in inst.settings.event_types[0].endpoints:
        for _ in range(30):
            inst.store.windows.acquire(endpoint)

    live = inst.rlm("plan").stdout
    fresh = inst.rlm("plan", "--count", f"{steps.TYPE}=10").stdout

    (seconds,) = re.findall(r"the first call can begin (\S+) s from now", live)
    assert 55 < float(seconds) < 61
    assert "the first call can begin" not in fresh


def test_at_most_the_oldest_items_are_read_and_that_is_said(inst, monkeypatch):
    """On stderr, so that the document stays one."""
    monkeypatch.setattr(backlog, "MOST_ITEMS", 200)
    inst.push(*steps.items(300, steps.TYPE))

    done = inst.rlm("plan", "--json")

    assert events(inst.json("plan")) == {steps.TYPE: 200}
    assert "100 more" in done.stderr


def test_a_person_reads_a_table_the_forecast_and_what_binds(inst):
    """By type, and in sentences: workers, the end, the constraint, what is left over."""
    shown = inst.rlm("plan", "--count", f"{steps.TYPE}=500").stdout

    assert "left over" in shown.splitlines()[0]
    assert f"The limit of {steps.TYPE} binds" in shown
    assert "140 events of 500 will be left over" in shown
    assert "4 workers of 5 lanes" in shown
    assert "Nothing will be left over." in inst.rlm("plan", "--count", f"{steps.TYPE}=5").stdout


def test_a_person_with_nothing_to_do_is_told_what_to_type(inst):
    """No table of zeros."""
    shown = inst.rlm("plan").stdout

    assert "rlm plan --count" in shown
    assert steps.TYPE not in shown
    assert inst.json("plan")["workers"] == 0
