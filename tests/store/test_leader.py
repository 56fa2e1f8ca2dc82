"""A scheduler's claim to the lease: never believed without a token, extended regularly, its loss noticed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.errors import FencedError
from scheduler import leader as leading
from scheduler.leader import RENEW_SECONDS, Leader


@pytest.fixture
def pass_time(monkeypatch):
    """Advance the clocks of this host: `pass_time(2.0)`."""
    clock = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(leading, "system_clock", SimpleNamespace(monotonic=lambda: clock.seconds))

    def let(seconds):
        clock.seconds += seconds

    return let


@pytest.fixture
def one(store, pass_time):
    """A leading scheduler."""
    leader = Leader(store.leases, "here")
    assert leader.campaign()
    return leader


def test_who_stands_by_does_not_lead_however_often_it_asks(store, one, pass_time):
    """Not even at once after it was told no; as soon as the lease is given up it does, under a greater token."""
    other = Leader(store.leases, "here")

    for _ in range(3):
        assert not other.campaign()
        assert other.token == 0
        pass_time(RENEW_SECONDS / 8)

    before = one.token
    one.resign()
    assert store.leases.holder() is None
    assert other.campaign()
    assert other.token > before


def test_the_lease_is_prolonged_now_and_then(store, one, pass_time, monkeypatch):
    """Not with each turn of a loop that keeps it."""
    asked, real = [], store.leases.contend
    monkeypatch.setattr(store.leases, "contend", lambda *args: (asked.append(args), real(*args))[1])

    for _ in range(30):
        pass_time(RENEW_SECONDS / 8)
        one.keep()

    assert len(asked) == 3


def test_a_lease_that_another_took_over_is_noticed(store, one, pass_time):
    """At the next time it is prolonged; nothing is conducted from then on."""
    store.client.hset(store.keys.lease, "expires_us", 0)
    assert Leader(store.leases, "here").campaign()
    pass_time(RENEW_SECONDS)

    with pytest.raises(FencedError, match="no longer holds"):
        one.keep()


def test_a_lease_that_was_lost_in_between_is_noticed_though_it_is_free_again(store, one, pass_time):
    """Another may have conducted meanwhile: the lease is ours, under another token, and what was begun is not."""
    store.client.hset(store.keys.lease, "expires_us", 0)
    other = Leader(store.leases, "here")
    assert other.campaign()
    other.resign()
    pass_time(RENEW_SECONDS)

    with pytest.raises(FencedError, match="no longer holds"):
        one.keep()
    assert one.token > other.token
    one.keep()
