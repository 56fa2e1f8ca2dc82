"""A run as it is at one instant."""

from __future__ import annotations

import pytest

from rlm.ledger.claims import Call, LaneId
from rlm.ledger.reading.books import take_snapshot
from tests.store.windows import make_endpoint


def test_nobody_calls(store):
    """Without workers, and of one without calls, there is nothing."""
    assert take_snapshot(store, ["T"], [], []).calls == ()
    assert take_snapshot(store, ["T"], [], ["w1"]).calls == ()


def test_a_call_counts_from_its_slot(store):
    """Each worker's calls are read with type, endpoint and age; what is claimed and has no slot yet is no call."""
    endpoint = make_endpoint("3/minute")
    store.client.hset(store.keys.calls("w1"), "i1:T", "")
    store.client.hset(store.keys.calls("w2"), "i:2:U", "")
    store.windows.acquire(endpoint, Call(LaneId("w1", 1), "i1:T", "api"))
    store.windows.acquire(endpoint, Call(LaneId("w2", 1), "i:2:U", "api"))
    store.client.hset(store.keys.calls("w2"), "i3:T", "")

    snapshot = take_snapshot(store, ["T", "U"], [endpoint], ["w1", "w2"])

    assert [(call.type, call.endpoint) for call in snapshot.calls] == [("T", "api"), ("U", "api")]
    # The ages of the calls are those of their slots, to the microsecond: all was read at one instant.
    ages = sorted(call.age_seconds for call in snapshot.calls)
    assert ages == pytest.approx(sorted(snapshot.ages["api"]), abs=1e-9)


def test_events_are_counted_where_they_are(store, settings):
    """What waits is counted by type, as the ledger itself counts it."""
    names = [one.name for one in settings.event_types]

    assert take_snapshot(store, names, [], []).counts == store.ledger.count(names)
