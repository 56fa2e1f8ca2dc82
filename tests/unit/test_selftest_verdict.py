"""A self-test that cannot fail tests nothing: each broken promise is reported."""

from __future__ import annotations

import msgspec
import pytest

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.sandbox import judge
from rlm.sandbox.judge import WALLET, Evidence, make_batch
from rlm.sandbox.mockapi import Arrival
from rlm.sandbox.mockapi.service import summarise

ENDPOINT = Endpoint("api", "http://h/api", Limit.parse("2/second"), 5.0)
BATCH = make_batch("p", {"T": 3}, 0.0)
COUNTS = {"taken": 3, "carried_over": 0, "completed": 3, "failed": 0, "leftover": 0, "duplicates": 1, "invalid": 2}


def call(at, event, **facts):
    fields = {"attempt": 1, "run_id": "r", "status": 200, "accepted": True, **facts}
    return Arrival(at=at, endpoint="api", event_id=event, **fields)


def evidence(*arrivals, record=None):
    """Return the API's view, and the record."""
    api = {"api": summarise(list(arrivals), ENDPOINT.limit, 0)}
    return Evidence(record or {}, [EventType("T", 1, 0.5, (ENDPOINT,))], arrivals, api, {}, 0)


def limit_faults(*arrivals):
    seen = evidence(*arrivals)
    return [*seen.refusals(), *seen.exceeded()]


WELL = [call(0.0, "p-1:T"), call(0.1, "p-2:T"), call(1.2, "p-3:T")]


def test_a_run_as_promised_has_no_fault():
    """Each event once, with its key, within the limit, on record."""
    assert list(judge.event_faults(evidence(*WELL), BATCH)) == []
    assert list(judge.key_faults(evidence(*WELL), BATCH)) == []
    assert limit_faults(*WELL) == []
    assert list(judge.record_faults(evidence(record={"state": "completed", "counts": COUNTS}), BATCH)) == []


@pytest.mark.parametrize(
    ("arrivals", "fault"),
    [
        (WELL[:2], "1 event never reached the API"),
        ([*WELL, call(3.0, "p-1:T")], "1 event reached the API more than once"),
        ([*WELL, call(3.0, "q-1:T")], "1 event reached the API that nobody pushed"),
        (
            [*WELL[:2], call(1.2, "p-3:T", status=400)],
            "1 event reached the API, but it did not answer with success",
        ),
    ],
)
def test_events_that_are_lost_doubled_or_strange_are_told(arrivals, fault):
    """By what the API let in."""
    assert list(judge.event_faults(evidence(*arrivals), BATCH)) == [fault]


def test_a_call_without_its_key_is_told():
    """Or with another one."""
    assert list(judge.key_faults(evidence(*WELL, call(3.0, None)), BATCH)) == [
        "1 call had no Idempotency-Key, or a wrong one"
    ]


def test_a_limit_that_is_exceeded_is_told():
    """By the API's refusals, and by the count of what it let through."""
    refused, exceeded = call(0.2, "p-3:T", accepted=False, status=429), call(0.2, "p-3:T")

    assert limit_faults(*WELL, refused) == ["the API refused 1 call"]
    assert limit_faults(*WELL, exceeded) == ["api let 3 calls through in 1 s, not 2"]


def test_a_record_that_says_something_else_is_told():
    """Its state, and each count."""
    record = {"state": "failed", "failure": "no worker came up", "counts": {**COUNTS, "completed": 1, "leftover": 2}}

    assert list(judge.record_faults(evidence(record=record), BATCH)) == [
        "the run ended failed (no worker came up)",
        "completed is 1, not 3",
        "leftover is 2, not 0",
    ]


def test_every_item_is_marked():
    """Whoever comes across one knows what it is, and which test's."""
    items = [msgspec.json.decode(raw) for raw in BATCH.items[:-1]]

    assert {item["wallet_name"] for item in items} == {WALLET}
    assert all(item["id"].startswith("p-") for item in items)
    assert BATCH.items[-1].startswith(b"p")
    assert BATCH.items[0] == BATCH.items[3]
