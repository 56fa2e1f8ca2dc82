"""Situations of a bad day, one after the other: every view is true and agrees with the others.

The forecasts during each run are compared with its result, by the rule of tests/faults/foresight.py.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rlm.admin import report
from rlm.ledger.processes import Role
from tests.faults.behind import behind_proxies
from tests.faults.foresight import Foresight
from tests.faults.mishaps import push, slow_redis
from tests.faults.situations import DAYS, DOCUMENT, Day
from tests.faults.test_bad_days import NAMED_SECONDS, lacks_workers
from tests.faults.test_processes_die import assert_next_run
from tests.values import as_json
from tests.wait import wait_until

if TYPE_CHECKING:
    from tests.acceptance.system import System

pytestmark = [pytest.mark.alone, pytest.mark.long]


@pytest.fixture
def day_system(make_system, tmp_path):
    """A system for a day, whose logs are JSON; behind proxies, if Redis is to be slow."""

    @contextmanager
    def make(day: Day):
        options = dict(day.options())
        options["env"] = {"RLM_LOG_FORMAT": "json", "RLM_ALARM__FAILED": "25", **options.get("env", {})}
        made = behind_proxies(tmp_path, document=DOCUMENT, **options) if day.around is slow_redis else None
        with made or make_system(document=DOCUMENT, **options) as system:
            yield system

    return make


@pytest.mark.parametrize("name", DAYS)
def test_no_face_says_other_than_what_happened(day_system, name):
    """Status in mid-run, forecast, record, result, doctor, explain, log and alarms, held against API and ledger."""
    day = DAYS[name]
    with day_system(day) as system:
        start(system, day)
        with day.around(system), Foresight(system, day.knows) as foresight:
            day.before(system)
            events = push(system, day.events)
            run_id = day.begins(system)
            if day.supervised:
                wait_until(
                    lambda: calls(system, run_id) > day.calls or as_json(system.store.runs.record(run_id)),
                    timeout=30,
                    message="calls",
                )
            day.middle(system)
            foresight.change()
            if "workers" in day.causes.values():  # so long it may take until the lack is named
                wait_until(lambda: lacks_workers(system), timeout=NAMED_SECONDS + 1, message="the lack is named")
            status = one_line(system.rlm("status").stdout)
            record = system.await_record(run_id)

        assert_foreseen(day, name, foresight, record)
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


def start(system: System, day: Day) -> None:
    if day.scheduled:
        system.start("scheduler")
        wait_until(lambda: system.store.leases.read().holder, timeout=40, message="a scheduler holds the lease")
    if day.supervised:
        system.start("supervisor")
        wait_until(
            lambda: system.store.processes.register().living(Role.SUPERVISOR), timeout=40, message="a supervisor lives"
        )


def calls(system: System, run_id: str) -> int:
    """Return how many calls arrived, or failed to."""
    tally = system.store.runs.tally()
    return len(system.api.arrivals) + sum(number for what, number in tally.items() if what.startswith("errors:"))


def assert_foreseen(day: Day, name: str, foresight: Foresight, record: dict[str, Any]) -> None:
    """Check that end and leftovers were predicted from two seconds after RLM could know."""
    worst = foresight.worst(record)
    print(f"FORESIGHT | {name} | {worst}")
    if not day.unforeseen:
        assert worst.forecasts
        assert worst.close, worst


def alarms(system: System) -> list[tuple[str, str]]:
    """Return the conditions that began, by the logs: code and subject."""
    lines = [line for log in system.directory.glob("*.log") for line in log.read_text(errors="replace").splitlines()]
    return [
        (told["condition"], told["subject"])
        for line in lines
        if line.startswith("{") and (told := json.loads(line)).get("action") == "begin_condition"
    ]


def one_line(text: str) -> str:
    return re.sub(r"[\s│]+", " ", text)


def assert_record(day: Day, record: dict[str, Any]) -> None:
    """Check that the state is true, and each type with leftovers has its own cause."""
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
        assert cause in {"slots", "retries"}, record["why"]  # they were there all the time, or may be


def assert_faces(system: System, day: Day, record: dict[str, Any], status: str) -> None:
    """Check that all views agree, during the run and afterwards."""
    assert "however many workers" not in status or "workers" not in day.causes.values()
    result, log = one_line(system.rlm("result").stdout), system.log("scheduler") + system.log("supervisor")
    for one in record.get("why", ()):
        assert one["sentence"] in result, result
        assert one["sentence"] in log
    counts = record["counts"]
    assert f"{counts['completed']} completed" in log
    left = sum(count.unsettled for count in system.store.ledger.count(system.types).values())
    assert left == counts["leftover"]
    may_ring = {*day.may_ring, "redis_slow"}  # a busy machine
    if any(one["cause"] in {"slots", "retries"} for one in record.get("why", ())):
        may_ring.add("leftovers")
    wait_until(
        lambda: sorted(one for one, _ in alarms(system) if one not in may_ring - {*day.alarms}) == sorted(day.alarms),
        timeout=8,
        message=f"{day.alarms} are told, not {alarms(system)}",
    )
    assert len(alarms(system)) == len(set(alarms(system))), alarms(system)
    shown = {one.code for one in report.now(system.store).conditions if one.severity != "info"}
    assert shown <= {*may_ring, *day.alarms}, shown
    assert report.now(system.store).last == record["run_id"]
