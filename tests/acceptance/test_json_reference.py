"""docs/json.md lists every key that the commands print as JSON, and none that they do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlm import closing
from rlm.arrivals import Arrivals
from rlm.event import Reason
from rlm.monitoring import Monitor
from rlm.store.processes import Process, Role
from tests.acceptance.cli import Installation
from tests.store import steps

PAGE = Path(__file__).parents[2] / "docs" / "json.md"

#: Under these keys stand names, not keys: what the page writes for them.
NAMES = {
    "by_type": "TYPE",
    "by_endpoint": "ENDPOINT",
    "by_budget": "BUDGET",
    "arrivals_per_window": "TYPE",
    "left_over_by_priority": "PRIORITY",
    "settings": "KEY",
}
#: These are looked at as a whole: the same plan again, and what people pushed.
WHOLE = {"today", "item"}
#: What only a conductor writes, and only a run that failed; no run is conducted here.
CONDUCTED = {
    "plan.binds",
    "failure",
    *(f"forecast.{key}" for key in ("as_of", "forecast_seconds", "expected_leftover", "workers", "binds")),
}
SECTIONS = """
[budgets.account]
rate_limit = "40/minute"
[types.REBALANCE_NEEDED]
endpoints = [{ name = "rebalance_api", url = "http://h/r", rate_limit = "30/minute", budget = "account" }]
"""


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url, SECTIONS) as made:
        yield made


def documented(command):
    """Return the keys in the tables of a command's section."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## `{command}`\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def keys(document, place="", name=""):
    """Yield the keys of a document as the page writes them, down to what holds no more of them."""
    if name in WHOLE or not isinstance(document, (dict, list)) or not document:
        yield place
    elif isinstance(document, list):
        for entry in document:
            yield from keys(entry, f"{place}[]")
    else:
        for key, value in document.items():
            yield from keys(value, f"{place}.{NAMES.get(name, key)}".lstrip("."), key)


def without_empty(found):
    """Leave out the places where a list or table is empty, there being one that is not."""
    return {one for one in found if not any(other.startswith((f"{one}.", f"{one}[")) for other in found)}


def test_the_keys_of_a_plan(inst):
    """With all that the options add."""
    asked = ["--workers", "2", "--set", "run.target=0.5", "--add-endpoint", steps.TYPE, "--windows", "2"]

    found = inst.json("plan", "--count", f"{steps.TYPE}=500", *asked)

    assert without_empty(set(keys(found))) == documented("rlm plan")


def test_the_keys_of_runs(inst):
    """Open, finished, listed, and when there is none."""
    idle = set(inst.json("status"))
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run()
    inst.store.ledger.complete(steps.claim_next(inst.store, inst.token, run), steps.ENDPOINT, 0.1)
    inst.store.processes.announce(Role.WORKER, Process("worker-1", 1, "host", 0.0, "ready", 5))
    steps.claim_next(inst.store, inst.token, run)
    running = set(keys(inst.json("status")))
    steps.finish(inst.store, inst.token, run)
    assert closing.close_run(inst.store, run.id)
    record, listed = set(keys(inst.json("result"))), set(keys(inst.json("list")))

    assert record == documented("rlm result") - CONDUCTED
    assert running == (record - {"finished_at", "plan.actual_seconds"}) | (
        documented("rlm status") - CONDUCTED - {"last", "last_tick"}
    )
    assert idle == {"state", "last", "last_tick"}
    assert listed == documented("rlm list")


def test_the_keys_of_queues_and_dead_letters(inst):
    """One event waits and one has failed."""
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run()
    inst.store.ledger.fail(steps.claim_next(inst.store, inst.token, run), Reason.REJECTED, "no", steps.ENDPOINT)

    assert set(keys(inst.json("queue", "stats"))) == documented("rlm queue stats")
    assert set(keys(inst.json("failed", "list"))) == documented("rlm failed list")


def test_the_keys_of_the_monitor(inst, monkeypatch):
    """With a run open, another on record, and arrivals known from it."""
    monkeypatch.setattr("rlm.monitoring.measured_arrivals", lambda _store: Arrivals({steps.TYPE: 5.0}, 180.0, 3.0))
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run()
    steps.finish(inst.store, inst.token, run)
    assert closing.close_run(inst.store, run.id)
    inst.start_run()

    more = set(keys(Monitor(inst.store, 0.3).look())) - documented("rlm queue stats")

    assert more == documented("rlm queue monitor")


def test_the_keys_of_an_event_explained(inst):
    """One waits, one has failed; an item has them for each of its events."""
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run()
    inst.store.ledger.fail(steps.claim_next(inst.store, inst.token, run), Reason.REJECTED, "no", steps.ENDPOINT)
    found = [inst.json("explain", steps.event_id(number)) for number in (1, 2)]
    item = inst.json("explain", "i2")

    assert without_empty({key for one in found for key in keys(one)}) == documented("rlm explain")
    assert list(item) == ["item_id", "events"]
    assert set(item["events"][0]) == set(found[0])


def test_the_keys_of_compliance(inst):
    """Without a call they are the same."""
    assert set(keys(inst.json("compliance"))) == documented("rlm compliance")


def test_the_keys_of_endpoints_and_changes(inst):
    """One is paused, which is a change."""
    inst.rlm("endpoint", "pause", steps.ENDPOINT)

    assert set(keys(inst.json("endpoint", "list"))) == documented("rlm endpoint list")
    assert set(keys(inst.json("endpoint", "changes"))) == documented("rlm endpoint changes")


def test_the_keys_of_the_configuration(inst):
    """With each setting under its key, and the same keys whether it can be used or not."""
    assert set(keys(inst.json("config", "show", "run"))) == documented("rlm config show")
    assert set(keys(inst.json("config", "check"))) == documented("rlm config check")


def test_the_keys_of_findings(inst):
    """No scheduler is running here, which is a finding with a remedy."""
    assert set(keys(inst.json("doctor", "--allow-volatile"))) == documented("rlm doctor")
