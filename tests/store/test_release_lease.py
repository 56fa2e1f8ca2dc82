"""Releasing the lease, so that nobody has to wait for it."""

from __future__ import annotations

from tests.store import looks


def test_a_released_lease_is_free_at_once(store):
    """The next one has it in the same moment, with a higher token, though it would have lasted for long."""
    token = store.leases.acquire("a", 600)

    assert store.leases.release("a")

    assert store.leases.holder() is None
    assert store.leases.acquire("b", 600) == token + 1


def test_only_the_holder_can_release_it(store):
    """Another one's release does nothing."""
    store.leases.acquire("a", 600)

    with looks.nothing_changes(store):
        assert not store.leases.release("b")
