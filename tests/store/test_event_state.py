"""Where an event is, and the list of those that wait."""

from __future__ import annotations

import pytest

from rlm.core.trail import Place
from rlm.ledger.reading import event_state
from rlm.ledger.reading.waiting import EventFilter, waiting_page
from tests.store import looks
from tests.store.ledgers import OTHER_TYPE, TYPE, open_run, put

EVENT = f"i1:{TYPE}"


@pytest.mark.parametrize(
    ("place", "between", "during"),
    [
        ("ready", Place.LEFTOVER, Place.PENDING),
        ("inflight", Place.IN_FLIGHT, Place.IN_FLIGHT),
        ("backoff", Place.BACKING_OFF, Place.BACKING_OFF),
        ("spent", Place.SPENT, Place.SPENT),
    ],
)
def test_an_event_is_in_one_place(store, place, between, during):
    """Ready events are left over while no run is open."""
    assert event_state(store, EVENT) is None
    put(store, EVENT, place, due=30.0)

    assert looks.where(store, EVENT) == [place]
    assert event_state(store, EVENT).place is between
    open_run(store)
    found = event_state(store, EVENT)
    assert found.place is during
    assert (found.position, found.of) == ((1, 1) if place == "ready" else (None, None))
    assert found.due == (pytest.approx(found.now + 30.0, abs=1.0) if place in {"inflight", "backoff"} else 0.0)


def test_a_call_under_way_is_told_with_its_worker_endpoint_and_start(store):
    """As the event's own hash has it."""
    claimed = {"owner": "host:7:ab 2", "claims": "3", "endpoint": "api", "stamp": "1000000"}
    put(store, EVENT, "inflight", attempt="1", **claimed)

    found = event_state(store, EVENT)

    assert (found.worker, found.endpoint, found.calling_since, found.attempt) == ("host:7:ab", "api", 1.0, 1)


def test_a_settled_event_is_known_by_its_state(store):
    """One without a state that is in no place is a fault."""
    store.client.hset(store.keys.event(EVENT), mapping={"state": "completed", "endpoint": "api", "stamp": "1"})
    store.client.hset(store.keys.event(f"i2:{TYPE}"), "item", "{}")

    assert event_state(store, EVENT).place is Place.COMPLETED
    assert event_state(store, EVENT).calling_since is None
    assert event_state(store, f"i2:{TYPE}").place is Place.NOWHERE


def test_waiting_events_are_listed_page_by_page(store):
    """By type, then by place, and within one by their order; each page goes on behind the one before."""
    for number, place in enumerate(("spent", "spent", "backoff", "backoff", "ready", "ready", "inflight")):
        put(store, f"i{number}:{TYPE}", place, due=60.0 - number, score=str(number))
    put(store, f"i7:{OTHER_TYPE}", "spent")
    expected = [f"i{number}:{TYPE}" for number in (4, 5, 3, 2, 0, 1)] + [f"i7:{OTHER_TYPE}"]

    for size in (1, 2, 100):
        found, place = [], 0
        while True:
            page = waiting_page(store, EventFilter(), size, place)
            found += [one.event_id for one in page.events]
            place = page.after
            if place is None:
                break
        assert found == expected

    of_item = waiting_page(store, EventFilter(item="i3", states=[Place.BACKING_OFF, Place.SPENT]), 9)
    assert [(one.event_id, one.state) for one in of_item.events] == [(f"i3:{TYPE}", Place.BACKING_OFF)]
    leftover = waiting_page(store, EventFilter(states=[Place.LEFTOVER], types=[TYPE]), 9)
    assert [one.event_id for one in leftover.events] == expected[:2]
