"""Situations of a bad day, one after the other: no face says other than what happened, nor other than another face."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from rlm.admin import report
from rlm.ledger.processes import Role
from tests.acceptance.system import make_item
from tests.faults.test_bad_days import NAMED_SECONDS, forecast
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.system import System

pytestmark = [pytest.mark.alone, pytest.mark.long]

#: Three types of their own endpoints, of which the first two share a budget. Divided by ten, a window is 18 s.
DOCUMENT = """
[queue]
failed_alarm = 25
[types.A]
priority = 5
processing_seconds = 2.0
rate_limit = "30/minute"
endpoints = [ { name = "a1", url = "http://127.0.0.1:1/a1" }, { name = "a2", url = "http://127.0.0.1:1/a2" } ]
[types.B]
priority = 3
processing_seconds = 1.0
rate_limit = "30/minute"
endpoints = [ { name = "b1", url = "http://127.0.0.1:1/b1", budget = "account" } ]
[types.C]
priority = 1
processing_seconds = 1.0
rate_limit = "30/minute"
endpoints = [ { name = "c1", url = "http://127.0.0.1:1/c1", budget = "account" } ]
[budgets.account]
rate_limit = "60/minute"
"""


@dataclass(frozen=True)
class Day:
    """A situation: `events` of each type; what is done `before` the run and in its `middle`; what must be said of it.

    `causes` are those that types must have that were left over. Of the `alarms` each must be raised once; those that
    `may_ring` depend on the moment. `failed` events become dead letters.
    """

    events: dict[str, int] = field(default_factory=lambda: {"A": 60, "B": 30, "C": 30})
    before: Callable[[System], Any] = lambda _system: None
    middle: Callable[[System], Any] = lambda _system: None
    causes: dict[str, str] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    may_ring: tuple[str, ...] = ()
    state: str = "completed"
    failed: int | None = 0
    supervised: bool = True


def fault(name: str, **what: Any) -> Callable[[System], Any]:
    return lambda system: system.api.set_fault(name, **what)


def command(*words: str) -> Callable[[System], Any]:
    return lambda system: system.rlm(*words)


def faults(**each: dict[str, Any]) -> Callable[[System], Any]:
    return lambda system: [system.api.set_fault(name, **what) for name, what in each.items()]


def kill_workers(system: System) -> None:
    for pid in system.workers()[: max(1, len(system.workers()) // 2)]:
        os.kill(pid, signal.SIGKILL)


def kill(name: str, *, again: bool) -> Callable[[System], None]:
    def act(system: System) -> None:
        system.stop(name, signal.SIGKILL)
        if again:
            system.start(name)

    return act


def freeze_redis(system: System) -> None:
    """The server does not answer for three seconds."""
    pid = int(system.store.client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    time.sleep(3.0)
    os.kill(pid, signal.SIGCONT)


def push_bad(system: System) -> None:
    system.push([make_item(f"u{number}", "GONE") for number in range(5)])
    system.store.intake.push([b"not json"] * 5)


OVERLOAD = {"A": 300, "B": 200, "C": 100}
MANY = {"A": 200, "B": 60, "C": 60}
DAYS = {
    "a good day": Day(),
    "more than the limits allow": Day(OVERLOAD, causes={"A": "limit"}, alarms=("leftovers",), state="partial"),
    "a budget lowered": Day(
        OVERLOAD,
        middle=command("endpoint", "limit", "account", "10 per 6 second"),
        causes={"A": "limit", "B": "budget", "C": "budget"},
        alarms=("leftovers",),
        state="partial",
    ),
    "a limit lowered": Day(
        MANY,
        middle=command("endpoint", "limit", "a1", "2 per 6 second"),
        causes={"A": "limit"},
        alarms=("leftovers",),
        state="partial",
    ),
    "an only endpoint paused": Day(
        MANY,
        middle=command("endpoint", "pause", "c1"),
        causes={"C": "paused"},
        alarms=("leftovers",),
        state="partial",
    ),
    "one of two endpoints paused": Day(middle=command("endpoint", "pause", "a2")),
    "no supervisor": Day(supervised=False, causes={"A": "failed"}, alarms=("no_worker", "run_failed"), state="failed"),
    "the supervisor killed": Day(
        MANY,
        middle=kill("supervisor", again=False),
        causes={"A": "workers"},
        alarms=("process_died",),
        state="partial",
    ),
    "the supervisor killed and started again": Day(middle=kill("supervisor", again=True), may_ring=("process_died",)),
    "half of the workers killed": Day(middle=kill_workers, alarms=("worker_died",)),
    "the scheduler killed and started again": Day(middle=kill("scheduler", again=True), may_ring=("process_died",)),
    "an API four times slower": Day(before=faults(a1={"slow": 4.0}, a2={"slow": 4.0})),
    "an API that answers 500": Day(
        before=fault("c1", status=500),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers",),
        state="partial",
    ),
    "an API that is down": Day(
        before=fault("c1", down=True),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers",),
        state="partial",
    ),
    "an API that does not answer": Day(
        before=fault("c1", hang=True),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers",),
        state="partial",
    ),
    "an API that asks for a rest": Day(
        before=fault("c1", throttle=60.0),
        causes={"C": "resting"},
        alarms=("leftovers",),
        may_ring=("limit_too_high",),
        state="partial",
    ),
    "one of two endpoints down": Day(
        before=fault("a2", down=True), alarms=("breaker_open",), may_ring=("leftovers",), state="completed or partial"
    ),
    "an API that takes no token": Day(
        before=fault("c1", status=401),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers", "dead_letters"),
        state="partial",
        failed=None,
    ),
    "an API that rejects all": Day(before=fault("c1", status=422), alarms=("dead_letters",), failed=30),
    "a tenth of the calls failing": Day(before=fault("a1", error_rate=0.1)),
    "Redis silent for three seconds": Day(middle=freeze_redis, may_ring=("redis_away", "clock_stepped")),
    "the run cancelled": Day(
        MANY, middle=command("cancel"), causes=dict.fromkeys("ABC", "cancelled"), state="cancelled"
    ),
    "bad items among good": Day(before=push_bad),
    "the same pushed twice": Day(before=lambda system: push(system, Day().events)),
}


def push(system: System, events: dict[str, int]) -> list[str]:
    items = [make_item(f"{name}{index}", name) for name, number in events.items() for index in range(number)]
    return system.push(items)


def alarms(system: System) -> list[str]:
    lines = [line for log in system.directory.glob("*.log") for line in log.read_text(errors="replace").splitlines()]
    return [told["alarm"] for line in lines if line.startswith("{") and "alarm" in (told := json.loads(line))]


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("name", DAYS)
def test_no_face_says_other_than_what_happened(make_system, name):
    """Status in mid-run, record, result, doctor, explain, log and alarms, held against the API and the ledger."""
    day = DAYS[name]
    with make_system(document=DOCUMENT, env={"RLM_LOG_FORMAT": "json"}) as system:
        system.start("scheduler")
        wait_until(system.store.leases.holder, timeout=40, message="a scheduler holds the lease")
        if day.supervised:
            system.start("supervisor")
            wait_until(lambda: system.store.processes.alive(Role.SUPERVISOR), timeout=40, message="a supervisor lives")
        day.before(system)
        events = push(system, day.events)
        run_id = system.ask_for_run()
        if day.supervised:
            wait_until(
                lambda: len(system.api.arrivals) > 20 or system.store.runs.record(run_id), timeout=30, message="calls"
            )
        day.middle(system)
        if "workers" in day.causes.values():  # so long it may take until the lack is named
            wait_until(lambda: forecast(system).get("shortage"), timeout=NAMED_SECONDS + 1, message="the lack is named")
        status = one_line(system.rlm("status").stdout)
        record = system.await_record(run_id)

        assert_record(day, record)
        assert_faces(system, day, record, status)
        system.assert_promises(
            [one for one in events if not one.startswith("u")],
            [record],
            refused=sum(one.refused for one in system.api.summary().values()),
        )
        for endpoint in system.settings.endpoints:
            system.api.set_fault(endpoint)
        if not (day.supervised and "supervisor" in system.processes):
            system.start("supervisor")
        assert_next_run(system)


def assert_record(day: Day, record: dict[str, Any]) -> None:
    """The state is what happened, and each type that was left over has its own cause."""
    assert record["state"] in day.state.split(" or "), record
    assert day.failed is None or record["counts"]["failed"] == day.failed, record["counts"]
    fewest_first = sorted(record.get("why", ()), key=lambda one: one["leftover"])
    causes = {name: one["cause"] for one in fewest_first for name in one["types"]}  # that of most of a type
    left = {name for name, entry in record["by_type"].items() if entry["leftover"]}
    assert set(causes) == left, record.get("why")
    assert sum(one["leftover"] for one in record.get("why", ())) == record["counts"]["leftover"]
    for type_name, cause in day.causes.items():
        assert causes.get(type_name) == cause, record["why"]
    for cause in set(causes.values()) - set(day.causes.values()):
        assert cause in {"limit", "budget", "attempts"}, record["why"]  # they were there all the time, or may be


def assert_faces(system: System, day: Day, record: dict[str, Any], status: str) -> None:
    """What is said in mid-run, and afterwards on each face, is one story."""
    assert "however many workers" not in status or "workers" not in day.causes.values()
    result, log = one_line(system.rlm("result").stdout), system.log("scheduler") + system.log("supervisor")
    doctor = {one["name"]: one for one in json.loads(system.rlm("doctor", "--json", check=False).stdout)["findings"]}
    for one in record.get("why", ()):
        assert one["sentence"] in result, result
        assert one["sentence"] in log
        assert one["sentence"] in doctor["last run"]["message"]
    counts = record["counts"]
    assert f"{counts['completed']} completed" in log
    left = sum(count.unsettled for count in system.store.ledger.count(system.types).values())
    assert left == counts["leftover"]
    rung = alarms(system)
    assert sorted(one for one in rung if one not in day.may_ring) == sorted(day.alarms), rung
    assert len(rung) == len(set(rung)), rung
    assert report.status(system.store, None)["last"] == record["run_id"]
