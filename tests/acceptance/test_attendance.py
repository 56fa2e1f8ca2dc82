"""No command promises what nobody is there to do, nor what only a configuration has that is not in force."""

from __future__ import annotations

import re

import msgspec
import pytest

from rlm.admin.attendance import BY_HAND, NO_SCHEDULER, NO_SUPERVISOR
from rlm.admin.report import overview
from rlm.admin.verdict import Level, verdict, verdict_on
from rlm.admin.whatif import as_it_is
from rlm.core.clock import isoformat, system_clock, timestamp
from rlm.core.documents import RunForecast
from rlm.ledger.processes import Process, Role
from rlm.ledger.reading.backlog import backlog
from tests.acceptance.cli import Installation, words_of
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
    said = words_of(inst.rlm("plan"))

    assert f"At present nobody does this: {NO_SUPERVISOR}. Nothing would be left over." in said
    assert inst.json("plan")["lacking"] == NO_SUPERVISOR
    assert inst.json("plan", "--count", f"{steps.TYPE}=5")["lacking"] is None, "that is of numbers, not of this moment"
    assert inst.json("plan", "--workers", "2")["lacking"] is None, "that asks what if there were some"

    enter(inst, Role.SUPERVISOR, "h:1:a", "another")
    assert inst.json("plan")["lacking"].startswith("every supervisor has another configuration")

    enter(inst, Role.SUPERVISOR, "h:2:b")
    assert inst.json("plan")["lacking"] is None
    assert "Nothing will be left over." in inst.rlm("plan").stdout


def test_what_would_be_left_over_is_no_promise_either(inst):
    """Nobody does the rest, so nothing "will" be left over of all: by the plan and by the page What if."""
    inst.push(*steps.items(860, steps.TYPE))
    inst.store.leases.release(steps.CONDUCTOR)
    said, found = words_of(inst.rlm("plan")), as_it_is(inst.store, 0.0, fresh=False).forecast(backlog(inst.store))

    assert f"At present nobody does this: {NO_SCHEDULER}; {NO_SUPERVISOR}; {BY_HAND}." in said
    assert re.search(r"\d+ events of 860 would be left over for the next run", said)
    assert "will be left over" not in said, "what binds is of the plan, not of what comes"
    assert verdict_on(found).words.endswith("of 860 events would be left over")

    enter(inst, Role.SCHEDULER, steps.CONDUCTOR)
    enter(inst, Role.SUPERVISOR, "h:1:a")
    assert re.search(r"\d+ events of 860 will be left over for the next run", words_of(inst.rlm("plan")))


def test_an_open_run_without_a_supervisor_is_not_on_track(inst):
    """From the first look on, whatever was planned: its conductor waits a while before it calls that a shortage."""
    inst.push(*steps.items(5, steps.TYPE))
    run = inst.start_run()
    inst.store.processes.want(inst.token, 1)
    forecast = RunForecast(as_of=isoformat(0.0), forecast_seconds=2.0, expected_leftover=0, workers=1)
    inst.store.runs.note(inst.token, run.id, forecast=msgspec.json.encode(forecast).decode())

    assert inst.json("status")["workers"]["lacking"] == NO_SUPERVISOR
    said = words_of(inst.rlm("status"))
    assert "nothing is sent before a worker comes up" in said
    assert NO_SUPERVISOR in said
    assert verdict(overview(inst.store))[:2] == (Level.BAD, "No worker is ready")

    enter(inst, Role.SUPERVISOR, "h:1:a")
    assert inst.json("status")["workers"]["lacking"] is None
    assert "all of it fits" in words_of(inst.rlm("status"))


def test_the_next_tick_is_that_of_the_scheduler_that_leads(inst):
    """The file was edited and the scheduler not restarted, or another installation shares the prefix."""
    enter(inst, Role.SUPERVISOR, "h:1:a", "another")
    enter(inst, Role.SCHEDULER, steps.CONDUCTOR, "another", ticks_every=7.0)
    found = overview(inst.store)

    assert timestamp(found["next_tick"]) % 7 == pytest.approx(0, abs=0.001)
    assert 0 < found["next_tick_seconds"] <= 7
    assert verdict(found)[:2] == (Level.WARN, "Another configuration is in force")
    assert f"he scheduler {steps.CONDUCTOR} has another configuration" in words_of(inst.rlm("status"))


def test_what_becomes_of_a_type_is_up_to_the_scheduler_that_leads(inst):
    """A type was removed from the file, and the scheduler still has it: nobody here knows that it makes letters."""
    inst.push(steps.item("i1", "REMOVED"))

    assert "1 dead letter and 0 duplicates that will result from what waits" in words_of(inst.rlm("plan"))

    enter(inst, Role.SCHEDULER, steps.CONDUCTOR, "another", ticks_every=7.0)
    assert "that would result from what waits by this configuration" in (planned := words_of(inst.rlm("plan")))
    assert f"he scheduler {steps.CONDUCTOR} has another configuration" in planned
    assert inst.json("plan")["led_otherwise"]
