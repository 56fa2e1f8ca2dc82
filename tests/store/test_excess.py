"""The log of calls, judged by the limits: the most calls in any period, and by how much too many."""

from __future__ import annotations

import pytest

from rlm.ledger.reading.compliance import compliance, exceeded, excess, gap
from tests.store.ledgers import ENDPOINT, OVERFLOW, called
from tests.store.looks import redis_us


@pytest.fixture
def amount(store):
    """How many calls the endpoint may get in a minute."""
    return store.endpoints()[ENDPOINT].limit.rules[0].amount


def make_calls(store, number, ago=0.0, **options):
    for _ in range(number):
        called(store, ago=ago, **options)


def test_calls_beyond_a_limit_are_told_by_endpoint(store, amount):
    """As many as were too many in the fullest period that ends since then; others have none."""
    began = redis_us(store) / 1_000_000
    assert set(excess(store, began).values()) == {0}
    make_calls(store, amount - 2, 50.0)
    make_calls(store, 5)
    called(store, OVERFLOW)

    found = excess(store, began)

    assert found.pop(ENDPOINT) == 3
    assert set(found.values()) == {0}
    assert set(excess(store, began + 10).values()) == {0}  # it was before that


def test_calls_that_hung_for_longer_than_a_period_count_from_when_they_were_sent(store, amount):
    """As many were sent in the period in which they were given up, which was allowed, and is no alarm."""
    make_calls(store, amount, 70.0, seconds=69.0)
    make_calls(store, amount)

    assert excess(store, redis_us(store) / 1_000_000 - 300)[ENDPOINT] == 0


def test_compliance_says_the_most_calls_in_any_period_and_from_when_on_they_are_known(store, amount):
    """Only calls since then are counted; a period that began before counts as a whole."""
    make_calls(store, amount, 85.0)
    make_calls(store, 1, 55.0)
    make_calls(store, 2, 20.0)

    found = compliance(store, 60.0)

    judged = found.by_endpoint[ENDPOINT]
    (rule,) = judged.rules
    assert (found.ok, exceeded(found), found.known_why) == (False, [ENDPOINT], None)
    assert (rule.most, rule.amount, judged.calls) == (amount + 1, amount, 3)
    older = compliance(store, 3600.0)
    assert "begins then" in gap(older)
    assert older.by_endpoint[ENDPOINT].calls == amount + 3
