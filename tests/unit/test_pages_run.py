"""The page of a run: its picture, its decisions."""

from __future__ import annotations

import msgspec

from rlm.core.documents import ChangeInRun, EndpointChange, RunCourse
from rlm.web.pages.run_plot import plot
from rlm.web.pages.runs import decisions
from tests.unit import statuses
from tests.values import record_from, replace

TYPE = {"taken": 10, "carried_over": 2, "completed": 9, "failed": 1, "leftover": 2}
ENDPOINT = {"calls": 11, "completed": 9, "throttled": 0, "errors": 2, "peak_in_window": 5, "limit": "5/minute"}
RECORD = record_from(
    run_id="r2",
    state="partial",
    trigger="schedule",
    started_at="2026-11-28T10:15:00.000Z",
    finished_at="2026-11-28T10:15:50.000Z",
    duration_seconds=50.0,
    window_seconds=60.0,
    counts={**TYPE, "invalid": 0, "duplicates": 0},
    by_type={"A": TYPE},
    by_endpoint={"a1": {**ENDPOINT, "p50_ms": 20.0, "p95_ms": 40.0}},
    plan={
        "workers": 1,
        "threads": 5,
        "forecast_seconds": 40.0,
        "expected_leftover": 2,
        "actual_seconds": 44.0,
        "binds": "the limit of A binds",
        "course": [[20.0, 5], [40.0, 10]],
    },
    workers={"peak": 2, "restarted": 1},
    why=[{"cause": "limit", "types": ["A"], "leftover": 2, "sentence": "2 events left over: the limit of A"}],
    troubles=[{"endpoint": "a1", "address": "h:1", "what": "HTTP 500", "calls": 2}],
)
COURSE = RunCourse(calls={"a1": (2.0, 2.5, 30.0)}, missing={}, changes=(), workers=())


def test_what_happened_is_numbered_in_the_order_of_time():
    """Neighbours share one number in the picture, which has room for no more."""
    change = {"at": "", "by": "me@host", "name": "a1", "before": None, "after": "10 s", "reason": "maintenance"}
    pause, resume = (EndpointChange(**change, what=what) for what in ("pause", "resume"))
    changes = (ChangeInRun(at_seconds=20.0, change=pause), ChangeInRun(at_seconds=21.0, change=resume))
    course = replace(COURSE, changes=changes, workers=(-3.0, 1.2))

    found = plot(RECORD, course)

    assert found.happened == [
        "1 worker started",
        "first call, 2.0 s after the start",
        "a1 paused for 10 s, by me@host: maintenance",
        "a1 resumed, by me@host: maintenance",
        "last of 9 events completed, 46 s after the start",
        "closed after 50 s",
    ]
    assert ">1, 2</text>" in found.curve
    assert ">3, 4</text>" in found.curve


def test_the_plan_is_drawn_from_the_first_call_on():
    """A plan's times count from there."""
    found = plot(RECORD, COURSE)

    assert found.is_planned
    assert not found.is_forecast
    assert not plot(replace(RECORD, plan=replace(RECORD.plan, course=())), COURSE).is_planned


def test_an_open_run_has_a_forecast():
    """It goes on from what was sent so far."""
    left = {"as_of": "2026-11-28T10:15:30.000Z", "forecast_seconds": 45.0, "expected_leftover": 1, "workers": 1}
    document = {
        **msgspec.to_builtins(replace(RECORD, plan=replace(RECORD.plan, actual_seconds=None))),
        "as_of": "2026-11-28T10:15:32.000Z",
        "called_seconds": 30.0,
        "seconds_left": 28.0,
        "state": "running",
    }
    status = statuses.status(**{**document, "forecast": left, "workers": 1})

    found = plot(status, COURSE)

    assert found.is_forecast
    assert found.happened[-1] == "now, 28 s left"


def test_decisions_of_a_finished_run_are_those_of_its_record():
    """Plan, outcome, what binds, causes and troubles, in the words of `rlm result`."""
    found = dict(decisions(RECORD))

    assert found["planned"] == ["1 worker, done 40 s after the first call, 2 left over"]
    assert found["in fact"] == ["2 workers, done 44 s after it, 2 left over; 1 replaced"]
    assert found["what binds"] == ["the limit of A binds"]
    assert found["why"] == ["2 events left over: the limit of A"]
    assert found["trouble"][0].startswith("2 of 11 calls failed: 2 x HTTP 500")
