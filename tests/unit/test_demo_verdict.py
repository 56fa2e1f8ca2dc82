"""A demo is compared with the promises, and summarised in words."""

from __future__ import annotations

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.sandbox.judge import Evidence, judge_demo
from rlm.sandbox.mockapi import Arrival, EndpointSummary
from tests.each import each
from tests.values import record_from

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
