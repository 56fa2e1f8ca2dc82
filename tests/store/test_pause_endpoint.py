"""Pausing an endpoint by hand: no slot is given, independently of other rests."""

from __future__ import annotations

import pytest

from tests.store.windows import (
    make_budget,
    make_endpoint,
    refusal,
    take,
)

BY = "someone@somewhere"


@pytest.fixture
def endpoint():
    """An endpoint whose limit is never met here."""
    return make_endpoint("100/minute")


def test_a_paused_budget_pauses_all_that_hang_on_it(store):
    """And nobody else."""
    account = make_budget("100/minute")
    one, other = make_endpoint(name="one", budget=account), make_endpoint(name="other")

    store.control.pause(account, BY, 30)

    assert 28 < refusal(store, one) <= 30
    take(store, other)
