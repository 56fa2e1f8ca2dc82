"""No command promises what nobody is there to do, nor what only a configuration has that is not in force."""

from __future__ import annotations

import msgspec
import pytest

from rlm.admin.attendance import NO_SUPERVISOR
from rlm.admin.report import overview
from rlm.admin.verdict import Level, verdict
from rlm.core.clock import isoformat, system_clock, timestamp
from rlm.core.documents import RunForecast
from rlm.ledger.processes import Process, Role
from tests.acceptance.cli import Installation
from tests.store import steps


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url) as made:
        yield made


def enter(inst, role, name, revision=None, **facts):
    """Have a process be heard from; one with another configuration if its revision is named."""
    process = Process(name, 1, "h", system_clock.now(), revision=revision or inst.settings.revision, **facts)
    inst.store.processes.announce(role, process)


def test_a_plan_says_that_nobody_would_do_it(inst):
    """The figures stay: a run that is conducted by hand, with a supervisor of its own, has them."""
    inst.push(*steps.items(5, steps.TYPE))

    assert inst.json("plan")["lacking"] == NO_SUPERVISOR
    assert inst.json("plan", "--count", f"{steps.TYPE}=5")["lacking"] is None, "that is of numbers, not of this moment"
    assert inst.json("plan", "--workers", "2")["lacking"] is None, "that asks what if there were some"

    enter(inst, Role.SUPERVISOR, "h:1:a", "another")
    assert inst.json("plan")["lacking"] not in {None, NO_SUPERVISOR}

    enter(inst, Role.SUPERVISOR, "h:2:b")
    assert inst.json("plan")["lacking"] is None


def test_an_open_run_without_a_supervisor_is_not_on_track(inst):
    """From the first look on, whatever was planned: its conductor waits a while before it calls that a shortage."""
    inst.push(*steps.items(5, steps.TYPE))
    run = inst.start_run()
    inst.store.runs.want(inst.token, 1)
    forecast = RunForecast(as_of=isoformat(0.0), forecast_seconds=2.0, expected_leftover=0, workers=1)
    inst.store.runs.note(inst.token, run.id, forecast=msgspec.json.encode(forecast).decode())

    assert inst.json("status")["workers"]["lacking"] == NO_SUPERVISOR
    assert verdict(overview(inst.store)).level is Level.BAD

    enter(inst, Role.SUPERVISOR, "h:1:a")
    assert inst.json("status")["workers"]["lacking"] is None


def test_the_next_tick_is_that_of_the_scheduler_that_leads(inst):
    """The file was edited and the scheduler not restarted, or another installation shares the prefix."""
    enter(inst, Role.SUPERVISOR, "h:1:a", "another")
    enter(inst, Role.SCHEDULER, steps.CONDUCTOR, "another", ticks_every=7.0)
    found = overview(inst.store)

    assert timestamp(found.next_tick) % 7 == pytest.approx(0, abs=0.001)
    assert 0 < found.next_tick_seconds <= 7
    assert "other_configuration" in {each.code for each in found.conditions}
