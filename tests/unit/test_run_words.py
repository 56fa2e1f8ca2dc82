"""Descriptions of a run for a person, if they need no server."""

from __future__ import annotations

import pytest

from rlm.admin.verdict import against_plan, troubles
from rlm.admin.words import line, progress
from rlm.cli.status import describe
from tests.unit.statuses import status

COUNTS = {"taken": 5, "carried_over": 0, "completed": 5, "failed": 0, "leftover": 0, "invalid": 0, "duplicates": 0}
BINDS = "the limit of A binds until the deadline at 3:00: 5 are left over, however many workers"


def run(*, leftover=0, **more):
    """The record of a run, or with `seconds_left` the status of an open one."""
    counts = {**COUNTS, "leftover": leftover}
    plan = {"forecast_seconds": 1.0, "lower_bound_seconds": 1.0, "expected_leftover": 0, "workers": 1, "threads": 5}
    return {
        "run_id": "r",
        "trigger": "schedule",
        "state": "completed",
        "duration_seconds": 1.0,
        "plan": {**plan, "binds": BINDS},
        "workers": {"peak": 1, "restarted": 0},
        "counts": counts,
        "by_type": {"A": counts},
        "by_endpoint": {},
        **more,
    }


@pytest.mark.parametrize("leftover", [0, 5])
def test_a_run_that_left_over_says_why(capsys, leftover):
    """From what happened, as its record has it, and never what its plan said."""
    why = "5 events left over: no worker was ready for 16 s"
    record = run(leftover=leftover, **({"why": [{"cause": "workers", "sentence": why}]} if leftover else {}))
    record["plan"]["expected_leftover"] = leftover

    describe(record)

    said = capsys.readouterr().out
    assert (f"\n{why}.\n" in said) == bool(leftover)
    assert BINDS not in said


def test_a_run_whose_calls_failed_says_so(capsys):
    """And no plan is blamed that had nothing left over."""
    endpoint = {"calls": 9, "errors": 8, "throttled": 1, "completed": 0, "peak_in_window": 1, "limit": "9/minute"}
    record = run(leftover=5)
    record["by_endpoint"]["a"] = endpoint | {"p50_ms": 0, "p95_ms": 0}
    record["troubles"] = [
        {"endpoint": "a", "address": "host:80", "what": what, "calls": calls}
        for what, calls in (("HTTP 503", 8), ("HTTP 429", 1))
    ]

    describe(record)

    told = capsys.readouterr().out
    assert "9 of 9 calls failed or were throttled: 8 x HTTP 503, a at host:80; 1 x HTTP 429, a at host:80.\n" in told
    assert "As it was planned" not in told


def test_a_run_that_was_never_planned_says_nothing_of_that(capsys):
    """Its record has no such words."""
    record = run(leftover=5)
    del record["plan"]["binds"]

    describe(record)

    assert "As it was planned" not in capsys.readouterr().out


@pytest.mark.parametrize(("workers", "words"), [(1, "with 1 worker. "), (12, "with 12 workers. ")])
def test_the_forecast_of_an_open_run_counts_its_workers(capsys, workers, words):
    """One worker is no workers."""
    forecast = {"forecast_seconds": 1.0, "expected_leftover": 0, "workers": workers, "binds": BINDS}

    describe(run(leftover=5, seconds_left=3.0, called_seconds=0.5, forecast=forecast))

    told = capsys.readouterr().out
    assert f"{words}T{BINDS[1:]}.\n" in told
    assert "As it was planned" not in told


def test_a_run_that_does_not_go_on_has_no_forecast(capsys):
    """What bound it before is no reason any more, and nobody sends."""
    forecast = {"forecast_seconds": 1.0, "expected_leftover": 9, "workers": 2, "binds": BINDS}

    describe(run(leftover=5, seconds_left=3.0, called_seconds=0.5, forecast=forecast, unfit="it is full: make room"))

    told = capsys.readouterr().out
    assert "\nNothing is sent until Redis is fit: it is full: make room.\n" in told
    assert "\nBy now: nothing more is sent until Redis is fit.\n" in told


def test_an_open_run_names_the_hosts_that_are_not_in_service(capsys):
    """In a pipe as in its picture."""
    lost = {"host": "h1", "state": "lost", "why": "its supervisor is not heard from for 10 s", "capacity": None}
    ready = {"host": "h2", "state": "ready", "why": None, "capacity": 20}

    describe(run(seconds_left=3.0, called_seconds=0.5, hosts=[lost, ready]))

    assert "\nHost h1 is lost: its supervisor is not heard from for 10 s.\n" in capsys.readouterr().out


def test_a_run_without_a_call_has_no_time_at_which_it_is_done(capsys):
    """As its picture says it."""
    record = run(leftover=5)
    record["plan"] |= {"forecast_seconds": 0.0, "lower_bound_seconds": 0.0, "expected_leftover": 5}

    describe(record)

    assert "Planned: no call, 5 left over\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        (0, "6 became dead letters, at intake, which counts as invalid and not as failed"),
        (2, "8 became dead letters, 6 of them at intake, which counts as invalid and not as failed"),
    ],
)
def test_dead_letters_that_are_no_failed_events_are_told_apart(failed, words):
    """Else "0 failed" stands beside dead letters, and nobody knows which is right."""
    assert troubles(run() | {"counts": {**COUNTS, "invalid": 6, "failed": failed}}) == [
        f"{words}: `rlm failed list` says why"
    ]


@pytest.mark.parametrize("state", ["draining", "planning", "finishing"])
def test_before_there_is_a_plan_nothing_is_said_to_be_planned(capsys, state):
    """The status has no plan until then, not even in a run that ends before it."""
    now = {"seconds_left": 9.0, "window_seconds": 10.0, "as_of": "", "deadline": "", "called_seconds": None}
    describe(run(state=state, plan=None, **now))

    told = capsys.readouterr().out
    assert "Planned:" not in told
    assert "Workers: not yet planned; " in told


def test_a_record_without_a_plan_says_nothing_of_one(capsys):
    """All figures of its plan are 0: that is no plan of no call and nothing left over."""
    figures = ("workers", "threads", "forecast_seconds", "lower_bound_seconds", "expected_leftover")
    record = run(leftover=5, state="cancelled", plan=dict.fromkeys(figures, 0))

    describe(record)

    told = capsys.readouterr().out
    assert "Planned:" not in told
    assert "Workers: never planned; " in told
    assert against_plan(record) == {}


def test_items_that_a_run_has_still_to_take_are_told_wherever_events_are_counted(capsys):
    """Else more will be left over than waits."""
    found = status(to_take=146500, as_of="")

    describe(found)

    told = (capsys.readouterr().out, progress(found), line(found))
    assert [one.count("146,500 items still to take") for one in told] == [1, 1, 1]
