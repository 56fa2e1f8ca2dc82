"""What a record says of endpoints and budgets: calls, peaks, and the limits in force."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm import closing, report
from tests.store import steps
from tests.store.windows import make_budget, take

BUDGET = make_budget("50/minute")


@pytest.fixture
def shared(store):
    """Have the first two endpoints of the first type hang on one account; return them, with their budget."""
    named = {name: replace(store.settings.endpoints[name], budget=BUDGET) for name in (steps.ENDPOINT, steps.OVERFLOW)}
    store.settings = replace(store.settings, endpoints={**store.settings.endpoints, **named})
    return named


@pytest.fixture
def call(store, token):
    """Complete `number` calls of a run at an endpoint, each with a slot."""

    def call(run, endpoint, number):
        take(store, endpoint, number)
        for _ in range(number):
            assert store.ledger.complete(steps.claim_next(store, token, run), endpoint.name, 0.1)

    return call


def close(store, token, run):
    steps.finish(store, token, run)
    return closing.close_run(store, run.id)


def test_a_record_tells_what_the_endpoints_of_a_budget_did_together(store, token, running, shared, call):
    """Their answers are summed; the peak is that of the budget's own window."""
    run = running(9)
    call(run, shared[steps.ENDPOINT], 3)
    call(run, shared[steps.OVERFLOW], 2)
    store.ledger.throttle(steps.claim_next(store, token, run), steps.OVERFLOW)
    store.ledger.retry(steps.claim_next(store, token, run), steps.ENDPOINT, 60)
    together = {"calls": 7, "completed": 5, "throttled": 1, "errors": 1, "peak_in_window": 5, "limit": "50/minute"}

    open_budgets = report.status(store, None)["by_budget"]
    record = close(store, token, run)

    assert open_budgets == record["by_budget"] == {"account": together}
    assert record["by_endpoint"][steps.ENDPOINT]["peak_in_window"] == 3


def test_slots_of_earlier_runs_are_no_part_of_a_peak(store, token, running, shared, call):
    """They still count in the window, for another record."""
    take(store, shared[steps.ENDPOINT], 4)
    run = running(1)
    call(run, shared[steps.OVERFLOW], 1)

    assert close(store, token, run)["by_budget"]["account"]["peak_in_window"] == 1


def test_a_budget_that_was_not_called_is_in_the_record(store, token, running, shared):
    """With zeros, as an endpoint is."""
    record = close(store, token, running(1))

    assert {one.budget for one in shared.values()} == {BUDGET}
    assert set(record["by_budget"]["account"].values()) == {0, "50/minute"}


def test_without_budgets_a_record_has_no_word_of_them(store, token, running):
    """The key is there where there is something to say."""
    assert "by_budget" not in close(store, token, running(1))


def test_a_limit_set_by_hand_is_the_one_on_record(store, token, running, shared, call):
    """The peak is counted over its period, not over the file's."""
    store.client.hset(store.keys.limits, mapping={steps.ENDPOINT: "5 per 30 seconds", "account": "7 per hour"})
    run = running(2)
    call(run, shared[steps.ENDPOINT], 2)

    record = close(store, token, run)

    assert record["by_endpoint"][steps.ENDPOINT]["limit"] == "5 per 30 seconds"
    assert record["by_budget"]["account"] == {
        "calls": 2,
        "completed": 2,
        "throttled": 0,
        "errors": 0,
        "peak_in_window": 2,
        "limit": "7 per hour",
    }
