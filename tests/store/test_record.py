"""The record of a run: what its calls were by endpoint and budget, from the log of calls."""

from __future__ import annotations

import pytest

from rlm.admin import report
from rlm.core.documents import CallCounts
from rlm.core.trail import CallEnd
from rlm.delivery import run_end
from rlm.ledger import Store
from tests.store import steps
from tests.store.ledgers import called
from tests.store.windows import make_budget, set_limits
from tests.values import as_json, replace

BUDGET = make_budget("50/minute")


@pytest.fixture
def store(store):
    """Let the first two endpoints of the first type share an account."""
    kinds = [
        replace(
            kind,
            endpoints=tuple(
                replace(one, budget=BUDGET) if one.name in {steps.ENDPOINT, steps.OVERFLOW} else one
                for one in kind.endpoints
            ),
        )
        for kind in store.settings.event_types
    ]
    endpoints = {one.name: one for kind in kinds for one in kind.endpoints}
    store.settings = replace(store.settings, event_types=tuple(kinds), endpoints=endpoints)
    shared = Store(store.settings, store.url)
    yield shared
    shared.close()


def close(store, token, run):
    steps.finish(store, token, run)
    return run_end.close_run(store, run.id)


def complete(store, endpoint, number):
    """Complete events at an endpoint; the calls of others are not sent."""
    while number:
        claim = steps.claim(store)
        if claim.endpoint == endpoint:
            steps.complete(store, claim, 0.1)
            number -= 1


def test_a_record_tells_what_the_endpoints_of_a_budget_did_together(store, token, running):
    """Their answers are summed; the peak is that of all their calls. What an earlier run sent is no part of it."""
    called(store, steps.ENDPOINT, 1.0)
    run = running(9)
    complete(store, steps.ENDPOINT, 3)
    steps.settle(store, steps.claim(store), "ready", CallEnd.THROTTLED)
    steps.fail(store, steps.claim(store), "backoff", delay_us=60_000_000)
    together = {"calls": 5, "completed": 3, "throttled": 1, "errors": 1, "peak_in_window": 5, "limit": "50/minute"}

    open_budgets = report.status(store, None).by_budget
    record = close(store, token, run)

    assert together.items() <= as_json(open_budgets["account"]).items()
    budget = CallCounts(**together, p50_ms=100.0, p95_ms=100.0)
    assert record.by_budget == {"account": budget}
    limit = store.settings.endpoints[steps.ENDPOINT].limit.text
    assert record.by_endpoint[steps.ENDPOINT] == replace(budget, limit=limit)
    assert record.by_endpoint[steps.OVERFLOW].calls == 0
    assert record.plan.actual_seconds >= 0.1
    assert record.used.answered_p95_seconds >= 0


def test_a_limit_set_by_hand_is_the_one_on_record(store, token, running):
    """The peak is counted over its period, not over the file's."""
    set_limits(store, (store.settings.endpoints[steps.ENDPOINT], "5 per 30 seconds"), (BUDGET, "7 per hour"))
    run = running(2)
    complete(store, steps.ENDPOINT, 2)

    record = close(store, token, run)

    assert record.by_endpoint[steps.ENDPOINT].limit == "5 per 30 seconds"
    assert record.by_budget["account"] == CallCounts(calls=2, completed=2, peak_in_window=2, limit="7 per hour")
