"""The windows as a storage of `limits`: under its moving-window strategy they are those of RLM's workers."""

from __future__ import annotations

import time

import limits
import pytest

from rlm.core.clock import system_clock
from rlm.core.endpoint import EventType, all_limited
from rlm.core.errors import StoreUnreachableError
from rlm.limits_storage import MovingWindowRateLimiter, storage_from_string
from tests.store.windows import make_budget, make_endpoint, refusal, rest, stamps, take

GUARD = 0.5
ITEM = limits.parse("5/minute")
URL = make_endpoint().url


def uri_of(store):
    address = store.url.replace("unix:///", "redis:///")
    return f"rlm+{address}?prefix={store.settings.redis.prefix}&guard={GUARD}"


@pytest.fixture
def limiter(store):
    """The library's own moving-window strategy over the storage of its scheme."""
    return MovingWindowRateLimiter(storage_from_string(uri_of(store)))


@pytest.fixture
def publish(store, token):
    """Publish endpoints as a conductor does."""

    def do(*endpoints):
        for limited in all_limited(endpoints):
            store.rules.limit(limited, limited.limit.text, "somebody")
        kind = EventType("KIND", 1, 1.0, endpoints)
        store.rules.publish(token, [kind], {})

    return do


def test_a_slot_that_either_takes_counts_for_both(store, limiter):
    """However the URL is spelt."""
    take(store, make_endpoint(), 2)

    assert limiter.test(ITEM, URL, cost=3)
    assert [limiter.hit(ITEM, url) for url in (URL, URL.replace("http:", "HTTP:"), URL, URL)] == [True] * 3 + [False]
    assert not limiter.test(ITEM, URL)
    assert len(stamps(store, make_endpoint())) == 5
    refusal(store, make_endpoint())


def test_what_is_left_and_when_the_next_slot_is_free(store, limiter):
    """With the guard."""
    take(store, make_endpoint(), 3)
    assert limiter.get_window_stats(ITEM, URL).remaining == 2
    take(store, make_endpoint(), 2)

    stats = limiter.get_window_stats(ITEM, URL)

    assert stats.remaining == 0
    assert stats.reset_time - time.time() == pytest.approx(60 + GUARD, abs=2)


def test_the_limit_in_force_holds_beside_that_of_the_item(store, limiter, publish):
    """Lowered and raised again it lets nothing through twice."""
    endpoint = make_endpoint("3/minute; 1000/hour")
    publish(endpoint)
    assert [limiter.hit(ITEM, URL) for _ in range(4)] == [True] * 3 + [False]

    for limit, remaining in (("2/minute", 0), ("4/minute", 1), ("30/minute", 2)):
        store.rules.limit(endpoint, limit, "test")
        assert limiter.get_window_stats(ITEM, URL).remaining == remaining
    assert [limiter.hit(ITEM, URL) for _ in range(3)] == [True] * 2 + [False]


def test_a_slot_is_taken_in_the_budget_as_well(store, limiter, publish):
    """Or in neither."""
    budget = make_budget("2/minute")
    one, two = make_endpoint("5/minute", "api", budget=budget), make_endpoint("5/minute", "two", budget=budget)
    publish(one, two)
    take(store, two)

    assert [limiter.hit(ITEM, URL) for _ in range(2)] == [True, False]
    assert not limiter.test(ITEM, URL)
    assert [len(stamps(store, each)) for each in (one, two, budget)] == [1, 1, 2]


def test_nothing_is_let_through_while_rlm_would_not(store, limiter, token):
    """A pause, a rest, a server that is not trusted."""
    endpoint = make_endpoint()
    store.rules.pause(endpoint, "test")
    assert not limiter.hit(ITEM, URL)
    assert not limiter.test(ITEM, URL)
    store.rules.resume(endpoint, "test")
    rest(store, endpoint, 60)
    assert not limiter.hit(ITEM, URL)
    store.rules.resume(endpoint, "test")
    assert limiter.hit(ITEM, URL)

    store.client.hset(store.keys.lease, "server", "another")
    assert not limiter.hit(ITEM, URL)


@pytest.mark.parametrize(("late", "hits"), [(0.15, True), (0.25, False)])
def test_a_slot_of_which_redis_tells_late_is_no_leave_to_call(store, monkeypatch, late, hits):
    """Its stamp would be too old when the API reads the call; it stays taken."""
    storage = storage_from_string(uri_of(store).replace(f"guard={GUARD}", "guard=0.5"))
    take, ahead = storage._windows.take, []
    monkeypatch.setattr(type(system_clock), "monotonic", lambda _self: sum(ahead))
    monkeypatch.setattr(storage._windows, "take", lambda *asked: (take(*asked), ahead.append(late))[0])

    assert MovingWindowRateLimiter(storage).hit(ITEM, URL) == hits
    assert len(stamps(store, make_endpoint())) == 1


def test_without_redis_no_slot_is_taken_for_granted(tmp_path):
    """It is an error of RLM or, on demand, of `limits`."""
    uri = f"rlm+unix://{tmp_path}/nobody.sock"

    with pytest.raises(StoreUnreachableError):
        MovingWindowRateLimiter(storage_from_string(uri)).hit(ITEM, URL)
    with pytest.raises(limits.errors.StorageError):
        MovingWindowRateLimiter(storage_from_string(uri, wrap_exceptions=True)).hit(ITEM, URL)
    assert not storage_from_string(uri).check()


def test_a_step_of_the_clock_gives_no_second_window(store, limiter, monkeypatch):
    """Also before RLM has noticed it."""
    assert limiter.hit(ITEM, URL, cost=5)
    right = system_clock.monotonic
    monkeypatch.setattr(system_clock, "monotonic", lambda: right() - 3600)
    store.client.delete(store.keys.window(make_endpoint().window_id))  # none of its calls counts by the new clock

    assert not limiter.hit(ITEM, URL)
    assert "stepped" in store.leases.read().doubt
