"""The verdict: the worst that applies comes first."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace as replaced

from rlm.admin.attendance import NO_SUPERVISOR
from rlm.admin.verdict import Level, verdict
from rlm.core.documents import LiveWorkers
from tests.unit.statuses import endpoint, record, rest, status, team

LEFT = {
    "as_of": "2026-11-25T10:16:13.123Z",
    "forecast_seconds": 120.0,
    "expected_leftover": 12,
    "workers": 3,
    "binds": "the limit of A binds",
}
FAILING = {"a": endpoint(["A"], errors=27, completed=63), "b": endpoint(["A"])}
RESTED = {"health": "resting", "circuit_reason": "failing", "since": "2026-11-25T10:14:01.500Z"}
TROUBLES = [{"endpoint": "a", "address": "h:80", "what": "HTTP 500", "calls": 27}]
NOT_READY = team(3, ready=0)
RESTING = {"health": "resting", "circuit_reason": "failing: HTTP 503", "circuit_seconds": 9.0}


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (status(), Level.WELL, "On track, finishes 57 s before the deadline"),
        (
            status(called_seconds=None),
            Level.WELL,
            "On track, done 2:00 min after the first call, which has yet to come",
        ),
        (status(forecast=LEFT), Level.WARN, "12 events will be left over"),
        (status(by_endpoint=FAILING, troubles=TROUBLES), Level.WARN, "a fails 30% of its calls: HTTP 500"),
        (status(by_endpoint={"a": FAILING["a"] | RESTED}), Level.WARN, "a fails 30% of its calls since 10:14:01 UTC"),
        (
            status(by_endpoint={"a": FAILING["a"] | RESTED | {"health": "paused"}}),
            Level.WARN,
            "a fails 30% of its calls",
        ),
        (status(by_endpoint=FAILING, forecast=LEFT), Level.WARN, "12 events will be left over"),
        (status(by_endpoint={"a": endpoint(["A"], **RESTING)}), Level.WARN, "a resting (failing: HTTP 503) for 9.0 s"),
        (
            replaced(status(forecast=LEFT), workers=msgspec.convert(NOT_READY, LiveWorkers)),
            Level.BAD,
            "No worker is ready",
        ),
        (status(conductor=None, forecast=LEFT), Level.BAD, "Nothing conducts this run since 10:16:13 UTC"),
        (status(state="draining"), Level.WELL, "Taking the items off the audit list; the forecast comes with the plan"),
    ],
)
def test_an_open_run(found, level, words):
    """What is worst about it, else what to expect."""
    assert verdict(found)[:2] == (level, words)


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (rest(), Level.WARN, "At rest; the last run left 590 events over"),
        (rest(last_record=None), Level.REST, "At rest; no run has finished yet"),
        (
            rest(last_record=record(state="failed", failure="no worker came up")),
            Level.BAD,
            "The last run failed",
        ),
        (rest(schedulers=0, conductor=None), Level.BAD, "Nothing conducts"),
        (rest(conductor=None), Level.WARN, "No scheduler leads"),
        (rest(lacking=NO_SUPERVISOR), Level.BAD, "Nothing would send"),
    ],
)
def test_between_two_runs(found, level, words):
    """What is worst about it, else that nothing is wrong."""
    assert verdict(found)[:2] == (level, words)


def test_an_endpoint_to_blame_stays_in_the_headline():
    """With what it answers and since when, what to do about it, and a link; only the number stood there before."""
    since = "2026-11-25T10:14:01.500Z"
    resting = endpoint(["A"], health="resting", circuit_reason="failing: HTTP 500", circuit_seconds=0.8, since=since)
    probed = resting | {"health": "probing", "circuit_seconds": None, "since": "2026-11-24T23:00:00.000Z"}
    paused = resting | {"health": "paused", "circuit_reason": None}
    expected = {**LEFT, "blamed": ["a", "b"], "binds": "no call to a is counted on"}

    one, two, three = (
        verdict(status(by_endpoint=of, forecast=expected, as_of="2026-11-25T10:16:00.000Z"))
        for of in ({"a": resting}, {"a": resting, "b": probed}, {"a": paused})
    )

    assert one.words == "a failing: HTTP 500 since 10:14:01 UTC"
    assert one.more == (
        "12 events will be left over. Until it works, `rlm endpoint pause a` keeps events from being spent on "
        "probes; then `rlm endpoint resume a` calls it at once. No call to a is counted on."
    )
    assert (one.endpoint, two.endpoint) == ("a", "a")
    assert two.words == "2 failing: HTTP 500 since 2026-11-24 23:00:00 UTC: a, b"
    assert "; then `rlm endpoint resume NAME` calls it at once. " in two.more
    assert three.words == "a paused for 0.8 s since 10:14:01 UTC"
    assert " `rlm endpoint resume a` ends a pause. " in three.more
