"""The adapter of the `limits` library without a Redis: rules become items, and foreign items are not touched."""

from __future__ import annotations

import pytest
from limits.storage import RedisStorage, storage_from_string

from rlm.core.endpoint import Limit
from rlm.ledger.limiter import Period, WindowStorage, periods


def test_a_rule_is_an_item_whose_period_may_be_a_fraction():
    """Each rule becomes an item with its amount and its period to the fraction of a second."""
    items = periods(Limit.parse("20 per 0.3 second; 1000/hour"))

    assert [(item.amount, item.get_expiry()) for item in items] == [(20, 0.3), (1000, 3600)]


@pytest.mark.parametrize("amount", [1, 10, 30])
def test_the_window_is_named_after_the_endpoint_alone(amount):
    """Whatever the amount, the key is the same, so that a changed limit finds the calls of the old one."""
    assert Period(amount, 60).key_for("c0ffee") == "c0ffee"


def test_the_library_keeps_its_own_redis_storage():
    """Our storage registers for no scheme: who asks `limits` for redis:// gets the library's."""
    assert issubclass(WindowStorage, RedisStorage)
    assert type(storage_from_string("redis://127.0.0.1:1/0")) is RedisStorage
