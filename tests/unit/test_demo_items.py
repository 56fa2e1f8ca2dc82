"""The items of the demo are like those of the audit system."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from rlm.core.item import decode_item
from rlm.sandbox.demo import make_items

TYPES = ["A", "B", "C", "D", "E"]
NOW = 1_700_000_000.0


def decoded(number, seed=1):
    return [decode_item(raw, 65536) for raw in make_items(number, TYPES, Random(seed), NOW)]


@pytest.mark.parametrize("number", [1, 4, 60, 902])
def test_hold_as_many_events_of_each_type(number):
    """The events are as many as asked for, in equal parts, give or take one."""
    counts = Counter(event.type for item in decoded(number) for event in item.events)

    assert sum(counts.values()) == number
    assert max(counts[name] for name in TYPES) - min(counts[name] for name in TYPES) <= 1


def test_are_different_wallets_and_different_items():
    """No item is like another, so none is a duplicate."""
    items = decoded(900)

    assert len({item.wallet_name for item in items}) == len(items)
    assert len({event.id for item in items for event in item.events}) == 900


def test_are_of_one_or_of_several_types():
    """Some wallets need one thing, some two or three, in no order."""
    types = [[event.type for event in item.events] for item in decoded(900)]

    assert {len(names) for names in types} == {1, 2, 3}
    assert types != sorted(types)
