"""The log of calls: read from an entry on, for a run, and by endpoint and budget; strays are named and left out."""

from __future__ import annotations

import pytest

from tests.store.ledgers import TYPE, called
from tests.store.looks import redis_us


@pytest.mark.parametrize(
    "stray",
    [
        ("other", "x"),
        ("c", "x"),
        ("c", f"r {TYPE} e w 1 completed 1 1 i1:{TYPE} 1 more"),
        ("c", f"r {TYPE} e w nan completed 1 1 i1:{TYPE} 1"),
        ("c", f"r {TYPE} e w 1 done 1 1 i1:{TYPE} 1"),
        ("c", f"r {TYPE} e w 1 completed 1e18 1 i1:{TYPE} 1"),
        ("c", f"r {TYPE} e w 1 completed -1 1 i1:{TYPE} 1"),
    ],
)
def test_what_rlm_did_not_write_is_named_and_left_out(store, caplog, stray):
    """The calls around it count."""
    called(store, ago=9.0)
    store.client.xadd(store.keys.calls, {stray[0]: stray[1]}, id=f"{redis_us(store) // 1000 - 5000}-*")
    called(store)

    found, last = store.calls.follow()

    assert len(found) == 2
    assert store.calls.follow(last) == ([], last)
    assert store.keys.calls in caplog.text
