"""A demo is compared with the promises, and summarised in words."""

from __future__ import annotations

import pytest
from msgspec.structs import replace as replaced

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.sandbox.demo import seen_table, summary
from rlm.sandbox.judge import Evidence, judge_demo
from rlm.sandbox.mockapi import Arrival, EndpointSummary
from tests.each import each
from tests.values import record_from, replace

LIMIT = Limit.parse("30 per 6 second")
TYPES = [EventType("T", 1, 0.5, (Endpoint("a", "http://x/a", LIMIT, 10.0), Endpoint("b", "http://x/b", LIMIT, 10.0)))]


def record(**changes):
    counts = {"taken": 4, "carried_over": 0, "completed": 4, "failed": 0, "leftover": 0}
    plan = {"workers": 2, "threads": 5, "forecast_seconds": 2.0, "lower_bound_seconds": 1.0, "expected_leftover": 0}
    return record_from(
        run_id="r",
        state=changes.get("state", "completed"),
        duration_seconds=3.0,
        window_seconds=18.0,
        counts={key: changes.get(key, value) for key, value in counts.items()},
        plan={key: changes.get(key, value) for key, value in plan.items()},
        workers={"peak": 2, "restarted": 0},
    )


def arrival(at, event, *, endpoint="a", accepted=True, run_id="r"):
    return Arrival(at, endpoint, event, 1, run_id, 200 if accepted else 429, accepted)


ALL = [arrival(10.0 + n / 2, f"e{n}:T") for n in range(4)]


def judged(arrivals=ALL, *, refused=0, unsettled=0, types=TYPES, budgets=None, **changes):
    seen = {
        "a": EndpointSummary(len(arrivals), len(arrivals) - refused, refused, 0, 4, LIMIT.text),
        "b": EndpointSummary(0, 0, 0, 0, 0, LIMIT.text),
    }
    evidence = Evidence(record(**changes), types, arrivals, seen, budgets or {}, unsettled)
    return judge_demo(evidence, events=4, items=3, speed=10.0)


def test_what_was_promised_and_came_true_is_good():
    """Nothing is broken; the outcome is measured from the first call to the last answer."""
    verdict = judged()

    assert verdict.broken == []
    assert verdict.answered_seconds == 2.0
    assert verdict.as_promised


@each(
    ("changes", "broken"),
    [
        ({"refused": 2}, "the API refused 2 calls"),
        ({"state": "failed"}, "the run ended failed (no failure is on record)"),
        ({"taken": 3}, "3 of 4 events taken"),
        ({"failed": 1}, "1 event failed"),
        ({"completed": 3, "leftover": 1}, "1 event left over, though all should have fitted"),
        ({"completed": 5}, "5 events completed by the record, 4 by the API"),
    ],
)
def test_each_broken_promise_is_named(changes, broken):
    """Whatever is not as promised is said, and said alone."""
    assert judged(**changes).broken == [broken]


def test_an_event_that_is_nowhere_is_lost():
    """An event that the API has not seen must be in the ledger."""
    known = judged(ALL[:3], unsettled=1, completed=3, leftover=1, expected_leftover=1)
    lost = judged(ALL[:3], unsettled=0, completed=3, leftover=1, expected_leftover=1)

    assert known.broken == []
    assert lost.broken == ["1 event lost: neither seen by the API nor in the ledger"]


@pytest.mark.parametrize(("most", "broken"), [(4, []), (3, ["account let 4 calls through in 6 s, not 3"])])
def test_a_budget_is_held_to_as_the_limits_are(most, broken):
    """Endpoints that keep their own limits may yet exceed the one they share; the summary has a table of budgets."""
    budget = Budget("account", Limit.parse(f"{most} per 6 second"))
    (kind,) = TYPES
    types = [replace(kind, endpoints=tuple(replace(one, budget=budget) for one in kind.endpoints))]
    calls = [replaced(one, endpoint=name) for one, name in zip(ALL, "abab", strict=True)]
    seen = {"account": EndpointSummary(4, 4, 0, 0, 4, budget.limit.text)}

    verdict = judged(calls, types=types, budgets=seen)

    assert verdict.broken == broken
    assert verdict.budgets == seen
    assert [line for line in summary(verdict, types) if line.startswith("account")] == seen_table("budget", seen)[1:]


def test_the_summary_says_in_words_what_happened():
    """Counts, forecast against outcome, what the API saw, and where to go next."""
    text = "\n".join(summary(judged(), TYPES))

    for words in (
        "4 events in 3 items",
        "4 completed, 0 failed, 0 left over.",
        "Forecast: 2.0 s from the first call to the last answer.",
        "Outcome: 2.0 s, 0.00 s (0.0%) less.",
        "The API refused nothing: 4 calls",
        "No event came twice.",
    ):
        assert words in text
    assert "NOT AS PROMISED" not in text
