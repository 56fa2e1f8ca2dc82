"""Taking the lease: one holder at a time, and a token that only grows."""

from __future__ import annotations

from tests.store import looks, steps
from tests.wait import wait_until

#: Long enough for any test, seconds.
LONG = 600.0


def test_the_first_who_asks_gets_it(store):
    """Without a holder the lease is given, with the first token."""
    assert store.leases.acquire("a", LONG) == 1


def test_another_is_refused_while_it_is_held(store):
    """Who asks meanwhile gets no token, and changes nothing."""
    store.leases.acquire("a", LONG)

    with looks.nothing_changes(store):
        assert store.leases.acquire("b", LONG) == 0


def test_renewal_keeps_the_token_and_prolongs_the_lease(store):
    """The holder that asks again has the same token, for as long as it asks for now."""
    token = store.leases.acquire("a", 1)
    ends = int(store.client.hget(store.keys.lease, "expires_us"))

    assert store.leases.acquire("a", LONG) == token

    assert int(store.client.hget(store.keys.lease, "expires_us")) > ends + (LONG - 10) * 1_000_000


def test_of_many_who_ask_at_once_one_gets_it(store):
    """Twenty that ask in the same moment: one token is given, and given once."""
    tokens = steps.at_once(*[lambda owner=f"s{number}": store.leases.acquire(owner, LONG) for number in range(20)])

    assert sorted(tokens) == [0] * 19 + [1]


def test_of_many_who_wait_for_a_lease_to_run_out_one_gets_it(store):
    """The token of the next holder is one higher, whoever of the twenty it is."""
    store.leases.acquire("a", 0)

    tokens = steps.at_once(*[lambda owner=f"s{number}": store.leases.acquire(owner, LONG) for number in range(20)])

    assert sorted(tokens) == [0] * 19 + [2]


def test_a_standby_takes_over_once_the_lease_has_run_out(store):
    """Until then it is refused; then it has a higher token, and the old holder is refused."""
    first = store.leases.acquire("a", LONG)
    assert store.leases.acquire("b", LONG) == 0
    store.leases.acquire("a", 0.05)

    second = wait_until(lambda: store.leases.acquire("b", LONG), message="the standby has the lease")

    assert second == first + 1
    assert store.leases.acquire("a", LONG) == 0


def test_a_holder_that_is_late_goes_on_if_nobody_came(store):
    """A lease that ran out unnoticed is prolonged under its token: nobody else has conducted meanwhile."""
    token = store.leases.acquire("a", 0)

    assert store.leases.acquire("a", LONG) == token


def test_the_token_grows_with_each_holder(store):
    """However the lease changes hands, no token is ever given to two holders, nor twice to one that left."""
    tokens = []
    for number in range(10):
        owner = "ab"[number % 2]
        tokens.append(store.leases.acquire(owner, LONG if number % 3 else 0))
        if number % 3:
            store.leases.release(owner)

    assert tokens == list(range(1, 11))
