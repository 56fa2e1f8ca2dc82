"""Taking the lease: one holder at a time, and a token that only grows."""

from __future__ import annotations

from tests.store import looks
from tests.wait import wait_until

#: Long enough for any test, seconds.
LONG = 600.0


def test_the_first_who_asks_gets_it(store):
    """Without a holder the lease is given, with a token."""
    assert store.leases.acquire("a", LONG) > 0


def test_another_is_refused_while_it_is_held(store):
    """Who asks meanwhile gets no token, and changes nothing."""
    store.leases.acquire("a", LONG)

    with looks.nothing_changes(store):
        assert store.leases.acquire("b", LONG) == 0


def test_a_standby_takes_over_once_the_lease_has_run_out(store):
    """Until then it is refused; then it has a higher token, and the old holder is refused."""
    first = store.leases.acquire("a", LONG)
    assert store.leases.acquire("b", LONG) == 0
    store.leases.acquire("a", 0.05)

    second = wait_until(lambda: store.leases.acquire("b", LONG), message="the standby has the lease")

    assert second == first + 1
    assert store.leases.acquire("a", LONG) == 0


def test_a_redis_that_came_back_empty_gives_no_token_twice(store):
    """The first token is the time, which is later than all that were given before: a deposed holder stays deposed."""
    for _ in range(5):
        before = store.leases.acquire("a", LONG)
        store.leases.release("a")
    now_s, _ = store.client.time()
    store.client.hset(store.keys.lease, "token", before - 60)  # as a minute ago

    store.client.delete(store.keys.lease)

    assert store.leases.acquire("b", LONG) > before - 60
    assert store.leases.acquire("b", LONG) >= now_s


def test_a_lease_from_before_the_clock_was_set_back_runs_out_all_the_same(store):
    """Its holder is dead, and it would be held for as long as the clock was set back: no longer than one that asks."""
    first = store.leases.acquire("dead", 3600)

    assert store.leases.acquire("b", 0.05) == 0

    assert wait_until(lambda: store.leases.acquire("b", 0.05), message="the standby has the lease") == first + 1
