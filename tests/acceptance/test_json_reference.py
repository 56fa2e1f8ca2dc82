"""docs/json.md lists exactly the keys that the commands print as JSON."""

from __future__ import annotations

import json

import click
import pytest

from rlm.admin.installations import overview_of_all
from rlm.admin.monitoring import Monitor
from rlm.admin.planning import Arrivals
from rlm.cli.group import COMMANDS, rlm
from rlm.core.expected import Measured
from rlm.core.item import Reason
from rlm.core.run import State
from rlm.core.trail import Heard
from rlm.delivery import run_end
from rlm.ledger.claims import Completion
from rlm.ledger.processes import Offer, Process, Role
from rlm.ledger.ways import Failure
from tests.acceptance.cli import WITH_BUDGET, Installation
from tests.acceptance.jsonpage import documented, keys, keys_under, sections, without_empty
from tests.store import steps

#: What only a conductor writes, and only a run that failed; no run is conducted here.
CONDUCTED = {
    "plan.binds",
    "plan.course[][]",
    "plan.kept.TYPE",
    "failure",
    "by_endpoint.ENDPOINT.limit_before",
    "by_budget.BUDGET.limit_before",
    *(f"forecast.{key}" for key in ("as_of", "forecast_seconds", "expected_leftover", "workers", "binds", "shortage")),
    "forecast.blamed[]",
    "forecast.short_since",
    "forecast.untaken",
    "forecast.leftover_by_type.TYPE",
    "forecast.probed[]",
    "forecast.course[][]",
}

#: Four lanes for urgent calls of 0.1 s and others of 2 s.
SHORT_OF_LANES = """
[run]
window_seconds = 9
[workers]
max = 1
threads = 4
[types.QUICK]
priority = 9
processing_seconds = 0.1
rate_limit = "6/second"
endpoints = [{ name = "quick", url = "http://h/q" }]
[types.SLOW]
processing_seconds = 2.0
rate_limit = "50/second"
endpoints = [{ name = "slow", url = "http://h/s" }]
"""


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url, WITH_BUDGET) as made:
        yield made


def commands_with_json():
    """Return the names of the commands with `--json`."""
    context = click.Context(rlm)
    for name in COMMANDS:
        command = rlm.get_command(context, name)
        known = {name: command}
        if isinstance(command, click.Group):
            known = {f"{name} {sub}": command.get_command(context, sub) for sub in command.list_commands(context)}
        yield from (words for words, one in known.items() if "--json" in {flag for p in one.params for flag in p.opts})


def test_each_command_that_prints_json_has_its_section():
    """And there is none for a command that does not."""
    assert set(commands_with_json()) == sections()


def test_the_keys_of_a_plan(inst, tmp_path, valkey_only_url):
    """With all that the options add, and with lanes that are kept."""
    failing = Measured(milliseconds=(100.0,) * 30, completed=30.0, errors=10.0)
    measured = inst.store.measures.encode({(steps.TYPE, steps.ENDPOINT): failing})
    inst.store.client.hset(inst.store.keys.measured, mapping=measured)
    asked = ["--workers", "2", "--set", "run.target=0.5", "--add-endpoint", steps.TYPE, "--windows", "2"]

    found = inst.json("plan", "--count", f"{steps.TYPE}=500", *asked)
    inst.close_run(inst.start_run())
    replayed = inst.json("plan", "--replay", "5", *asked[:-2])

    with Installation(tmp_path, valkey_only_url, SHORT_OF_LANES) as short:
        keeping = short.json("plan", "--count", "QUICK=60", "--count", "SLOW=20")

    assert replayed["replay"]["runs"] == 1
    assert keeping["kept"] == {"QUICK": 1}
    assert without_empty({*keys(found), *keys(replayed), *keys(keeping)}) == documented("rlm plan")


def announce_hosts(inst):
    """Announce a host with a supervisor and labels, which is behind the other."""
    offer = Offer(20, 0, 20, {"zone": "a"})
    inst.store.processes.announce(Role.SUPERVISOR, Process("host:1:a", 1, "host", 0.0, version="1", offer=offer))
    inst.store.processes.announce(Role.SCHEDULER, Process("other:1:a", 1, "other", 0.0, version="2"))
    inst.store.ways.fail(inst.store.endpoints()[steps.ENDPOINT], "host", Failure("not reachable", here=True), 9)


def test_the_keys_of_runs(inst):
    """Open, finished, listed, and when there is none."""
    idle = set(inst.json("status"))
    inst.push(*steps.items(3, steps.TYPE))
    run = inst.start_run()
    announce_hosts(inst)
    inst.store.turns.complete(Completion(steps.claim_next(inst.store, inst.token, run), steps.ENDPOINT, 0.1))
    endpoint = inst.store.endpoints()[steps.ENDPOINT]
    *_, slot = [inst.store.windows.acquire(endpoint) for _ in range(2)]
    inst.store.breaker.refuse(endpoint, 0.0, slot)
    refused = Heard("no", kind="connection refused")
    inst.store.ledger.retry(steps.claim_next(inst.store, inst.token, run), steps.ENDPOINT, 60, refused)
    inst.store.processes.announce(Role.WORKER, Process("worker-1", 1, "host", 0.0, "ready", 5))
    assert set(keys(inst.json("worker", "list"))) == documented("rlm worker list")
    steps.claim_next(inst.store, inst.token, run)
    steps.put_into(inst.store, run, State.RUNNING)
    figures = ("workers", "threads", "forecast_seconds", "lower_bound_seconds", "expected_leftover")
    plan = json.dumps(dict.fromkeys(figures, 1))
    assert inst.store.runs.note(inst.token, run.id, away_seconds="9.0", untaken="1", plan=plan)
    running = without_empty(set(keys(inst.json("status"))))
    steps.finish(inst.store, inst.token, run)
    assert run_end.close_run(inst.store, run.id, overdue=True)
    record, listed = set(keys(inst.json("result"))), set(keys(inst.json("list")))
    of_all = set(keys(overview_of_all({"one": inst.config}, {})))

    assert record == documented("rlm result") - CONDUCTED
    at_end = ("finished_at", "overdue", "plan.actual_seconds", "used", "why")
    ended = {one for one in record if one.startswith(at_end)}
    assert running == (record - ended) | (documented("rlm status") - CONDUCTED - {"last", "last_tick"})
    assert of_all == keys_under("All installations")
    assert idle == {"state", "last", "last_tick"}
    assert listed == documented("rlm list")


def test_the_keys_of_queues_and_dead_letters(inst):
    """One event waits and one has failed."""
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run()
    inst.store.ledger.fail(steps.claim_next(inst.store, inst.token, run), Reason.REJECTED, "no", steps.ENDPOINT)

    assert set(keys(inst.json("queue", "stats"))) == documented("rlm queue stats")
    assert set(keys(inst.json("queue", "list"))) == documented("rlm queue list")
    listed, groups = (set(keys(inst.json("failed", "list", *how))) for how in ([], ["--grouped"]))
    assert listed | groups == documented("rlm failed list")
    (letter,) = inst.json("failed", "list")
    assert set(inst.json("failed", "show", letter["id"])) == set(letter)


def test_the_keys_of_what_changes_queues_and_dead_letters(inst):
    """Done, refused, and tried."""
    pushed = inst.json("queue", "push", input=b"\n".join([*steps.items(2, steps.TYPE), b"[]", steps.item("x", "X")]))
    cleared = [inst.json("queue", "clear", *args) for args in (["--dry-run"], ["--yes"])]
    dropped = [inst.json("queue", "drop", "--all", *args) for args in (["--dry-run"], [])]
    inst.push(b"no JSON", b"nor this", steps.item("i1", "NOT_CONFIGURED"))
    inst.start_run()
    unknown, *others = [one["id"] for one in inst.json("failed", "list")]

    assert without_empty(set(keys(pushed))) == documented("rlm queue push")
    assert set().union(*dropped) == documented("rlm queue drop")
    assert set().union(*cleared) == documented("rlm queue clear")
    for verb, done in (("retry", "retried"), ("drop", "dropped")):
        found = set(keys(inst.json("failed", verb, "--all", "--dry-run")))
        found |= set(keys(inst.json("failed", verb, others.pop())))
        found |= set(keys(inst.json("failed", verb, "--reason", "not_json"))) if verb == "retry" else set()
        found |= set(keys(inst.json("failed", "retry", unknown, code=1)))
        assert without_empty(found) - {done, "retried", "left"} == documented(f"rlm failed {verb}")


def test_the_keys_of_the_monitor(inst, monkeypatch):
    """With a run open, another on record, and arrivals known from it."""
    monkeypatch.setattr("rlm.admin.planning.measured_arrivals", lambda _store: Arrivals({steps.TYPE: 5.0}, 180.0, 3.0))
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run()
    steps.finish(inst.store, inst.token, run)
    assert run_end.close_run(inst.store, run.id)
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

    found.append(inst.json("explain", "wallet of i1"))

    assert without_empty({key for one in found for key in keys(one)}) == documented("rlm explain")
    assert list(item) == ["item_id", "events"]
    assert set(item["events"][0]) == set(found[0])


def test_the_keys_of_compliance(inst):
    """Without a call they are the same."""
    assert set(keys(inst.json("compliance"))) == documented("rlm compliance")


def test_the_keys_of_endpoints(inst):
    """One is paused in the end."""
    assert set(inst.json("endpoint", "limit", steps.ENDPOINT, "20/minute")) == documented("rlm endpoint limit")
    assert set(inst.json("endpoint", "resume", steps.ENDPOINT)) == documented("rlm endpoint resume")
    assert set(inst.json("endpoint", "pause", steps.ENDPOINT)) == documented("rlm endpoint pause")

    assert set(keys(inst.json("endpoint", "list"))) == documented("rlm endpoint list")


def test_the_keys_of_the_configuration(inst):
    """With each setting under its key, and the same keys whether it can be used or not."""
    assert set(keys(inst.json("config", "show", "run"))) == documented("rlm config show")
    assert set(keys(inst.json("config", "check"))) == documented("rlm config check")


def test_the_keys_of_first_files(inst, tmp_path):
    """Written, and tried again where one of them is there already."""
    written = inst.json("init", str(tmp_path / "new"))
    (tmp_path / "new" / "Procfile").unlink()
    again = inst.json("init", str(tmp_path / "new"))

    assert without_empty({key for one in (written, again) for key in keys(one)}) == documented("rlm init")


def test_the_keys_of_findings(inst):
    """No scheduler is running here, which is a finding with a remedy."""
    assert set(keys(inst.json("doctor", "--allow-volatile"))) == documented("rlm doctor")
