"""Reopening an endpoint that answered well, unless something newer says otherwise."""

from __future__ import annotations

import pytest

from tests.store.windows import health, look, make_endpoint, pass_time, refusal, take


@pytest.fixture
def endpoint():
    """An endpoint whose limit is never met here."""
    return make_endpoint("100/minute")


def test_reopening_forgets_failures_and_probing(store, endpoint):
    """Nothing of the failures, the rest and the probe is left, but how far back its slots are kept."""
    store.breaker.fail(endpoint, first_rest_seconds=4, failing=1)
    pass_time(store, endpoint, 5)
    take(store, endpoint)

    assert store.breaker.reopen(endpoint)

    assert set(health(store, endpoint)) == {"kept_us", "opened_us"}
    assert look(store, endpoint).free == 99


def test_reopening_twice_or_what_is_open_changes_nothing(store, endpoint):
    """An endpoint without failures stays as it is."""
    store.breaker.reopen(endpoint)
    take(store, endpoint)
    before = health(store, endpoint)

    assert not store.breaker.reopen(endpoint)
    assert not store.breaker.reopen(endpoint)

    assert health(store, endpoint) == before


def test_a_failure_that_rested_nothing_is_forgotten_without_a_word(store, endpoint):
    """One failed call, then a good one: the endpoint was never rested, so it does not come back."""
    store.breaker.fail(endpoint, first_rest_seconds=4, failing=5)

    assert not store.breaker.reopen(endpoint)

    assert "failures" not in health(store, endpoint)


def test_an_older_good_answer_does_not_lift_a_newer_rest(store, endpoint):
    """A call from before the rest, answered well during it, opens nothing: the rest is kept, and its probe after."""
    store.breaker.rest(endpoint, 30)
    before = health(store, endpoint)

    store.breaker.reopen(endpoint)

    assert health(store, endpoint) == before
    assert 28 < refusal(store, endpoint) <= 30
    pass_time(store, endpoint, 31)
    take(store, endpoint)
    refusal(store, endpoint)


def test_a_rest_that_follows_at_once_is_whole(store, endpoint):
    """A rest asked for right after a reopening is kept like any other."""
    store.breaker.fail(endpoint, first_rest_seconds=4, failing=1)
    pass_time(store, endpoint, 5)
    store.breaker.reopen(endpoint)

    store.breaker.rest(endpoint, 30)

    assert 28 < refusal(store, endpoint) <= 30
