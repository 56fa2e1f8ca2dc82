"""By how much a limit was exceeded since a moment, from the log of calls."""

from __future__ import annotations

from rlm.ledger.reading.compliance import excess
from tests.store import looks, steps
from tests.store.windows import take


def test_calls_beyond_a_limit_are_told_by_endpoint(store, token):
    """As many as were too many in the fullest period that ends since then; others have none."""
    api = store.endpoints()[steps.ENDPOINT]
    began = store.windows.look(())[0] / 1_000_000
    assert set(excess(store, began).values()) == {0}
    now_us = looks.redis_us(store)
    store.client.lpush(store.keys.window(api.window_id), *[now_us] * (api.limit.rules[0].amount + 3))

    found = excess(store, began)

    assert found.pop(steps.ENDPOINT) == 3
    assert set(found.values()) == {0}
    assert set(excess(store, now_us / 1_000_000 + 1).values()) == {0}  # it was before that


def test_a_limit_that_is_lowered_was_not_exceeded_by_what_was_sent_before(store, token):
    """Each period is judged by the limit in force at its last call."""
    store.publish_limits(token)
    api = store.endpoints()[steps.ENDPOINT]
    began = store.windows.look(())[0] / 1_000_000
    take(store, api, 20)
    store.control.limit(store.settings.endpoints[steps.ENDPOINT], "5/minute", "somebody")

    assert excess(store, began)[steps.ENDPOINT] == 0
