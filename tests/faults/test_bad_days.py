"""Bad days: RLM's reports during and after one are true, the same in every view, and one line says that each began."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from contextlib import contextmanager

import pytest

from rlm.admin import report
from rlm.admin.conditions import conditions
from rlm.ledger.processes import HEARTBEAT_SECONDS
from tests.acceptance.system import make_item
from tests.faults.test_processes_die import assert_next_run
from tests.stopwatch import Stopwatch
from tests.values import as_json, left_over
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: Within so long of a change its cause is named, seconds.
NAMED_SECONDS = 5.0


def told_of(system, action):
    """Return the codes of the conditions of which the logs say this, in the order of the lines."""
    lines = [line for name in ("scheduler", "supervisor") for line in system.log(name).splitlines()]
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [one["condition"] for one in told if one.get("action") == action]


def alarms(system):
    """Return the codes of the conditions that began, by the logs of all processes."""
    return told_of(system, "begin_condition")


def await_alarms(system, *codes):
    """Wait until the logs say that these conditions began, and no others: each once."""
    wait_until(lambda: sorted(alarms(system)) == sorted(codes), timeout=8, message=f"{codes}, not {alarms(system)}")


@pytest.fixture
def bad_day(make_system):
    """A system whose logs are JSON, so that their alarms can be read."""

    def make(**more):
        env = {"RLM_LOG_FORMAT": "json", **more.pop("env", {})}
        return make_system(env=env, **more)

    return make


def forecast(system):
    """Return the present forecast of the open run."""
    return as_json(report.now(system.store)).get("forecast") or {}


def lacks_workers(system):
    """Return whether the forecast says that workers are missing."""
    return forecast(system).get("shortage")


def codes(system):
    """Return the codes of the conditions now."""
    return {one.code for one in conditions(system.store)}


@pytest.mark.long
def test_a_run_whose_supervisor_is_killed_counts_the_workers_there_are(bad_day):
    """Status, doctor, record, log and alarm name it; the forecast no longer promises what nobody will do."""
    with bad_day() as system:
        system.start_both()
        events = system.push_evenly(900)
        run_id = system.ask_for_run()
        wait_until(lambda: len(system.answered()) > 60, timeout=30, message="the run is under way")

        # When the only supervisor is killed, whose workers leave with it
        system.stop("supervisor", signal.SIGKILL)
        killed = Stopwatch(system.processes["scheduler"].pid)

        # Then it is said within seconds, with what will be left over
        wait_until(lambda: "no_supervisor" in codes(system), timeout=30, message="the lack is named")
        wait_until(lambda: lacks_workers(system), timeout=10, message="the forecast counts on nobody")
        assert killed.busy < NAMED_SECONDS + HEARTBEAT_SECONDS
        status = system.rlm("status").stdout
        told = forecast(system)
        assert "will be left over" in status, status
        assert "however many workers" not in status
        doctor = system.rlm("doctor", check=False)
        assert doctor.returncode == 1, doctor.stdout
        assert "no_supervisor" in doctor.stdout

        record = system.await_record(run_id)
        left = record["counts"]["leftover"]
        assert left > 300
        assert abs(left_over(told) - left) <= 0.02 * len(events)
        assert [one["cause"] for one in record["why"]] == ["workers"]
        result = system.rlm("result").stdout
        assert record["why"][0]["sentence"] in on_one_line(result)
        assert "no_supervisor" in alarms(system)
        assert "leftovers" not in alarms(system)  # its cause is a condition itself
        system.assert_promises(events, [record])
        system.start("supervisor")
        assert_next_run(system)


@pytest.mark.long
def test_a_run_without_a_supervisor_says_so_from_its_first_seconds(bad_day):
    """Not that all of it fits, until it fails."""
    with bad_day() as system:
        system.start("scheduler")
        wait_until(lambda: system.store.leases.read().holder, timeout=40, message="a scheduler holds the lease")
        events = system.push_evenly(100)
        run_id = system.ask_for_run()
        asked = Stopwatch(system.processes["scheduler"].pid)

        wait_until(lambda: lacks_workers(system), timeout=30, message="the lack is named")

        assert asked.busy < NAMED_SECONDS + 1  # and a second until it is planned
        assert left_over(forecast(system)) == 100
        assert "nothing is being sent; 100 events will be left over" in system.rlm("status").stdout
        record = system.await_record(run_id)
        assert record["state"] == "failed"
        assert [one["cause"] for one in record["why"]] == ["failed"]
        await_alarms(system, "no_supervisor", "run_failed")
        system.assert_promises(events, [record])
        system.start("supervisor")
        assert_next_run(system)


BUDGET = """
[types.A]
priority = 5
processing_seconds = 2.0
rate_limit = "30/minute"
endpoints = [ { name = "a1", url = "http://127.0.0.1:1/a1", budget = "account" },
              { name = "a2", url = "http://127.0.0.1:1/a2", budget = "account" } ]
[types.B]
priority = 1
processing_seconds = 1.0
rate_limit = "30/minute"
endpoints = [ { name = "b1", url = "http://127.0.0.1:1/b1" } ]
[budgets.account]
rate_limit = "60/minute"
"""


def changed_in_mid_run(system, *command):
    """Begin a run of 120 events of A and 150 of B, run a command during it; return its output, and the run's record."""
    system.start_both()
    items = [make_item(f"{name}{index}", name) for name, number in (("A", 120), ("B", 150)) for index in range(number)]
    events = system.push(items)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 30, timeout=30, message="the run is under way")
    system.rlm(*command)
    changed_at = time.monotonic()
    told = {}

    def look():
        nonlocal told
        if not told or time.monotonic() < changed_at + 2:  # so long it may take until the forecast follows
            told = forecast(system) or told
        return as_json(system.store.runs.record(run_id))

    record = wait_until(look, timeout=40, message="the run is closed")
    system.assert_promises(events, [record])
    return told, record


def test_endpoints_paused_in_mid_run_are_named(bad_day):
    """All of a type: its limit has nothing to do with it."""
    with bad_day(document=BUDGET) as system:
        told, record = changed_in_mid_run(system, "endpoint", "pause", "b1")

        assert "b1 is paused" in told["binds"], told
        why = {tuple(one["types"]): one for one in record["why"]}
        assert why["B",]["cause"] == "paused", record["why"]


ALIKE = """
[types.ALPHA]
priority = 5
processing_seconds = 0.5
rate_limit = "3000/minute"
endpoints = [ { name = "alpha", url = "http://127.0.0.1:1/alpha" } ]
"""


#: A worker that is there before the run: how long it takes to come up is no part of these.
READY = {"RLM_WORKERS__MIN": "1"}


def begin(system):
    """Start the processes and wait until a worker is ready."""
    system.start_both()
    wait_until(system.workers, timeout=40, message="a worker is ready")


def named(system, words):
    """Wait until a condition contains `words`; return the seconds it took."""
    began = time.monotonic()

    def said():
        return words in " ".join(one.sentence for one in conditions(system.store))

    wait_until(said, timeout=NAMED_SECONDS + 1, message=f"{words!r} is said")
    return time.monotonic() - began


def test_an_expired_token_costs_a_few_events_and_not_the_backlog(bad_day):
    """The endpoint rests and is probed, it is said why, and what waits is done once the token is a good one."""
    with bad_day(document=ALIKE, env=READY | {"RLM_RUN__WINDOW_SECONDS": "5"}) as system:
        begin(system)
        system.api.set_fault("alpha", status=401)
        events = system.push([make_item(f"e{index}", "ALPHA") for index in range(100)])
        run_id = system.ask_for_run()
        assert named(system, "HTTP 401") < NAMED_SECONDS
        record = system.await_record(run_id)

        failed = record["counts"]["failed"]
        assert 5 <= failed < 30
        assert (record["state"], record["counts"]["leftover"]) == ("partial", 100 - failed)
        address = system.api.url.removeprefix("http://")
        assert record["troubles"] == [{"endpoint": "alpha", "address": address, "what": "HTTP 401", "calls": failed}]
        assert [one["cause"] for one in record["why"]] == ["resting"]
        words = f"{failed} x HTTP 401, alpha at {address}"
        assert words in on_one_line(system.rlm("result").stdout)
        await_alarms(system, "endpoint_failing", "no_endpoint")

        # When the token is a good one again, and what was refused is retried
        system.api.set_fault("alpha")
        system.rlm("failed", "retry", "--all", "--yes")
        later = system.await_record(system.ask_for_run())

        assert (later["state"], later["counts"]["completed"]) == ("completed", 100)
        ended = lambda: sorted(told_of(system, "end_condition")) == ["endpoint_failing", "no_endpoint"]  # noqa: E731
        wait_until(ended, timeout=8, message="it is said that it is over")
        assert report.now(system.store).conditions == ()
        system.assert_promises(events, [record, later])


@pytest.mark.long
def test_an_api_that_cannot_be_reached_is_named_with_why_and_where(bad_day):
    """By the command that waited, which fails, by record, log, doctor and result."""
    with closed_port() as port:
        env = {"RLM_RUN__WINDOW_SECONDS": "12"}
        with bad_day(document=ALIKE, front=lambda _url: f"http://127.0.0.1:{port}", env=env) as system:
            events = system.push([make_item(f"e{index}", "ALPHA") for index in range(3)])

            waited = system.rlm("start", "--wait", "--json", check=False)

            assert waited.returncode == 1, waited.stderr
            record = json.loads(waited.stdout)
            calls = record["by_endpoint"]["alpha"]["errors"]
            words = f"{calls} x connection refused, alpha at 127.0.0.1:{port}"
            (trouble,) = record["troubles"]
            assert trouble == {
                "endpoint": "alpha",
                "address": f"127.0.0.1:{port}",
                "what": "connection refused",
                "calls": calls,
            }
            assert f"every call of run {record['run_id']} failed: {words}" in on_one_line(waited.stderr)
            lines = [json.loads(line) for line in waited.stderr.splitlines() if line.startswith("{")]
            assert words in next(one["message"] for one in lines if one["action"] == "close_run")
            begun = {one["condition"] for one in lines if one["action"] == "begin_condition"}
            assert begun == {"endpoint_failing", "no_endpoint"}
            assert f"{calls} of {calls} calls failed: {words}" in on_one_line(system.rlm("result").stdout)
            system.assert_promises(events, [record])


def on_one_line(text):
    return re.sub(r"[\s│]+", " ", text)


@contextmanager
def closed_port():
    """A port of loopback on which nobody listens or will listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
