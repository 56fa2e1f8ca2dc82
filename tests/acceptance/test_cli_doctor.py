"""`rlm doctor`: the conditions with their remedies, what is well, the exit codes."""

from __future__ import annotations

import json

import pytest

from rlm.core.clock import system_clock
from rlm.core.run import State
from rlm.ledger.processes import Process, Role, WorkerState
from tests.acceptance.cli import words_of
from tests.store import steps, windows
from tests.values import replace


@pytest.fixture
def inst(inst):
    inst.store.leases.release(steps.CONDUCTOR)
    return inst


def codes(inst, code=0):
    """Return the sentences of the conditions by code; the doctor must end with `code`, and status say the same."""
    found = inst.json("doctor", code=code)["conditions"]
    assert [one["code"] for one in found] == [one["code"] for one in inst.json("status")["conditions"]]
    assert all(one["remedy"] for one in found)
    return {one["code"]: one["sentence"] for one in found}


def announce(inst, role, process_id="host:1:abc", **facts):
    """Register a living process, with the same configuration unless given another."""
    process = Process(process_id, 1, "host", system_clock.now(), revision=inst.settings.revision)
    inst.store.processes.announce(role, replace(process, **facts))


@pytest.fixture
def led(inst):
    """An installation with a scheduler that leads, and a supervisor."""
    announce(inst, Role.SCHEDULER, process_id=steps.CONDUCTOR)
    announce(inst, Role.SUPERVISOR)
    inst.token = inst.store.leases.contend(steps.CONDUCTOR, 600).token
    return inst


def test_an_installation_with_nothing_started_says_what_to_start(inst):
    """Two errors, which the text shows with their remedies; everything else is well."""
    document = inst.json("doctor", code=1)

    assert document["ok"] is False
    assert [one["code"] for one in document["conditions"]] == ["no_scheduler", "no_supervisor"]
    assert {one["name"] for one in document["findings"] if one["ok"]} >= {"redis", "clock", "keys", "run", "books"}
    shown = words_of(inst.rlm("doctor", code=1))
    assert all(f"{one['sentence']} > {one['remedy']}" in shown for one in document["conditions"])
    assert "All is well" not in shown


def test_all_is_well_only_without_a_condition(led):
    assert codes(led) == {}
    assert "All is well." in led.rlm("doctor").stdout

    led.rlm("endpoint", "pause", next(iter(led.settings.endpoints)))

    assert list(codes(led)) == ["endpoint_paused"]
    assert "All is well" not in led.rlm("doctor").stdout


def test_missing_workers_are_no_worker_or_too_few(led):
    """Those that have just been started are waited for."""
    led.store.client.hset(led.store.keys.processes, "wanted", 2)
    assert list(codes(led, 1)) == ["no_worker"]
    announce(led, Role.WORKER, process_id="1", state=WorkerState.READY)
    assert list(codes(led)) == ["workers_missing"]
    announce(led, Role.WORKER, process_id="2", state=WorkerState.STARTING)
    assert codes(led) == {}


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("[workers]\nmax = 0\n", "workers.max = 0"),
        ("[run]\n[run]\n", "not valid TOML"),
        ('[types.A]\nrate_limit = "1/minute"\nendpoints = [{ name = "a", url = "http://a/${NO}" }]', "NO is not set"),
    ],
)
def test_with_a_faulty_file_it_says_what_lives(led, lines, fault):
    """And what is wrong in the file, with exit 2. Of one that is no TOML the tables before the fault name the Redis."""
    led.config.write_text(led.config.read_text() + lines)

    done = led.rlm("doctor", code=2)

    assert "scheduler" in done.stdout
    assert fault in done.stderr


def test_web_names_the_variable_that_lacks_its_token(inst):
    """Which is no secret."""
    inst.config.write_text(inst.config.read_text() + '[web]\ntoken = "env:RLM_NO"\n')

    assert "the variable RLM_NO must hold" in inst.rlm("web", code=2).stderr


def test_an_overdue_run_is_an_error(led):
    """Somebody has to close it."""
    led.push(*steps.items(2, steps.TYPE))
    run = led.start_run(window_seconds=1000)
    assert codes(led) == {}
    led.store.client.hset(led.store.keys.run, "deadline_us", led.store.now_us() - 60_000_000)

    assert run.id in codes(led, 1)["run_stuck"]


def test_what_is_left_over_because_calls_hang_names_them(led):
    """So says the event meanwhile: slots are free, but no lane is."""
    led.push(*steps.items(2, steps.TYPE))
    run = led.start_run(window_seconds=1000)
    steps.claim(led.store)
    steps.put_into(led.store, State.RUNNING)
    led.store.runs.note(led.token, run.id, waits=json.dumps({"until": run.started_at, "last": {steps.TYPE: "lanes"}}))
    announce(led, Role.WORKER, state=WorkerState.READY)
    assert "all lanes are busy" in led.json("explain", steps.event_id(2))["sentence"]
    led.store.runs.note(led.token, run.id, first_release_at=run.started_at - 100)
    assert "run_stuck" in codes(led, 1)

    led.close_run(run)

    assert "1 x cut by the deadline, rebalance_api" in codes(led)["leftovers"]


def test_a_window_that_is_held_since_its_limit_was_changed_is_no_doubt(led):
    """RLM does not know the calls of all of a longer period; until it does none is made."""
    windows.hold(led.store, led.settings.endpoints["rebalance_api"], 600)

    told = codes(led)

    assert list(told) == ["endpoint_full"]
    assert "longer period" in told["endpoint_full"]


@pytest.mark.parametrize(("number", "probe"), [(0, "the next event"), (1, "one event at a time")])
def test_a_failing_endpoint_is_probed_by_what_waits(led, number, probe):
    """Without an event nothing calls it, and it stays as it is."""
    led.push(*steps.items(number, steps.TYPE))
    led.start_run()
    windows.set_record(led.store, led.settings.endpoints["rebalance_api"], since=1, failures=5, failed_with="HTTP 403")

    assert probe in codes(led)["endpoint_failing"]


def test_a_leftover_that_is_gone_from_the_ledger_is_an_error(led):
    """The record of the last run says how many are to be there; of a run before it nothing is to be."""
    led.push(*steps.items(2, steps.TYPE))
    led.close_run(led.start_run())
    led.close_run(led.start_run())
    assert "books_unbalanced" not in codes(led)

    led.store.client.zpopmin(led.store.keys.ready(steps.TYPE))

    assert steps.TYPE in codes(led, 1)["books_unbalanced"]


@pytest.mark.parametrize(("name", "unfit"), [("totals", False), ("lease", True), ("conditions", True)])
def test_a_damaged_key_is_named_with_what_mends_it(led, name, unfit):
    """If nothing else can be known with it, Redis is unfit, so that /healthz is not well."""
    key = getattr(led.store.keys, name)
    led.store.client.set(key, "rubbish")

    document = led.json("doctor", code=4 if unfit else 1)

    (found,) = [one for one in document["conditions"] if one["code"] == "key_damaged"]
    assert found["subject"] == key
    assert f"redis-cli DEL {key}" in found["remedy"]
    assert ("redis_unfit" in [one["code"] for one in document["conditions"]]) == unfit


def test_a_supervisor_that_is_frozen_while_its_workers_work_is_told_from_a_lost_host(led):
    """Its entry is gone, and its workers are heard from."""
    led.store.processes.forget(Role.SUPERVISOR, "host:1:abc")
    announce(led, Role.WORKER, process_id="host:1:abc:1", state=WorkerState.READY, supervisor="host:1:abc")

    assert "it hangs" in codes(led)["host_silent"]


def test_dead_letters_above_the_bound_are_an_error(led):
    number = led.settings.alarm.failed
    led.store.client.lpush(led.store.keys.failed, *["{}"] * (number + 1))

    assert f"({number})" in codes(led, 1)["dead_letters"]


def test_a_host_whose_clock_is_wrong_is_a_warning(led, monkeypatch):
    now = system_clock.now
    monkeypatch.setattr(system_clock, "now", lambda: now() + 3600)

    assert list(codes(led)) == ["clock_apart"]
