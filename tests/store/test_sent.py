"""When calls were sent, although their slots may count from a later time: the log by which limits are judged."""

from __future__ import annotations

import pytest

from rlm.core.errors import StoreUnreachableError
from rlm.ledger.claims import Admitted
from rlm.ledger.reading.compliance import compliance, excess
from tests.store import steps
from tests.store.windows import make_budget, make_endpoint, pass_time, stamps, take


@pytest.fixture
def endpoint():
    """An endpoint with three slots a minute."""
    return make_endpoint("3/minute")


def aged(store, limited, slot, seconds):
    """Let `seconds` pass; return the slot as it is then known."""
    pass_time(store, limited, seconds)
    return Admitted(str(int(slot.stamp) - round(seconds * 1_000_000)))


def test_a_call_without_an_answer_stands_where_it_was_sent(store, endpoint):
    """Its slot counts from when its connection was closed, a period later; it was not sent again then."""
    slot, _ = take(store, endpoint, 2)
    slot = aged(store, endpoint, slot, 70)
    (other,) = set(stamps(store, endpoint)) - {int(slot.stamp)}

    blocked = store.windows.block(endpoint, slot)

    assert stamps(store, endpoint) == [int(blocked.stamp), other]
    assert store.windows.sent(endpoint, 10) == [int(slot.stamp), other]
    assert store.windows.sent(endpoint, 1) == [int(slot.stamp)]


def test_one_that_was_moved_twice_stands_where_it_was_sent(store, endpoint):
    """First to when it may have been read, then to when its connection was closed."""
    (slot,) = take(store, endpoint)
    slot = aged(store, endpoint, slot, 200)

    once = store.windows.block(endpoint, slot, ago_seconds=65.0)
    store.windows.block(endpoint, once)

    assert store.windows.sent(endpoint, 10) == [int(slot.stamp)]


def test_a_call_that_left_late_stands_where_it_left(store, endpoint):
    """It was not sent when its slot was taken."""
    (slot,) = take(store, endpoint)
    slot = aged(store, endpoint, slot, 70)

    blocked = store.windows.block(endpoint, slot, left_late=True)

    assert store.windows.sent(endpoint, 10) == [int(blocked.stamp)]


def test_one_that_was_read_late_stands_where_it_was_sent(store, endpoint):
    """Its slot counts from less than a period later, but calls were admitted meanwhile that it counted for no more."""
    (slot,) = take(store, endpoint)
    slot = aged(store, endpoint, slot, 66)

    moved = store.windows.block(endpoint, slot, ago_seconds=8.0)

    assert int(moved.stamp) - int(slot.stamp) < 60_000_000
    assert store.windows.sent(endpoint, 10) == [int(slot.stamp)]


def test_a_slot_moved_within_a_period_is_not_noted(store, endpoint):
    """That makes no period fuller than it was, so nothing is written for it."""
    (slot,) = take(store, endpoint)
    slot = aged(store, endpoint, slot, 50)

    blocked = store.windows.block(endpoint, slot)

    assert store.windows.sent(endpoint, 10) == [int(blocked.stamp)]
    assert store.client.exists(store.keys.moved(endpoint.window_id)) == 0


def test_the_budget_knows_when_it_was_sent_too(store):
    """A period of either is enough; what is noted goes with the slots."""
    budget = make_budget("5/second")
    endpoint = make_endpoint("3/minute", budget=budget)
    (slot,) = take(store, endpoint)
    pass_time(store, budget, 5)
    slot = aged(store, endpoint, slot, 5)

    store.windows.block(endpoint, slot)

    assert store.windows.sent(endpoint, 10) == store.windows.sent(budget, 10) == [int(slot.stamp)]
    for limited in (endpoint, budget):
        assert 0 < store.client.pttl(store.keys.moved(limited.window_id)) <= 24 * 3600 * 1000


def test_calls_that_hung_for_longer_than_a_period_exceed_no_limit(store, token):
    """As many were sent in the period in which they were given up, which was allowed, and is no alarm."""
    api = store.endpoints()[steps.ENDPOINT]
    began = store.windows.look(())[0] / 1_000_000
    hung = take(store, api, api.limit.rules[0].amount)
    pass_time(store, api, 70)
    take(store, api, api.limit.rules[0].amount)

    for slot in hung:
        store.windows.block(api, Admitted(str(int(slot.stamp) - 70_000_000)))

    assert excess(store, began)[steps.ENDPOINT] == 0
    found = compliance(store, 3600)
    assert found["ok"]
    assert found["by_endpoint"][steps.ENDPOINT]["calls"] == 2 * api.limit.rules[0].amount


def test_one_whose_answer_is_lost_when_it_is_moved_stands_where_it_was_sent(store, endpoint, monkeypatch):
    """The script is run and nobody hears of it: the call does not count as sent again."""
    (slot,) = take(store, endpoint)
    slot = aged(store, endpoint, slot, 70)
    run = store.windows._run

    def unheard(*script, **named):
        run(*script, **named)
        raise StoreUnreachableError("the answer is lost")

    monkeypatch.setattr(store.windows, "_run", unheard)
    with pytest.raises(StoreUnreachableError):
        store.windows.block(endpoint, slot)

    assert store.windows.sent(endpoint, 10) == [int(slot.stamp)]
