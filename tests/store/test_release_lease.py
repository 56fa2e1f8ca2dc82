"""Releasing the lease, so that nobody has to wait for it."""

from __future__ import annotations

from tests.store import looks


def test_a_released_lease_is_free_at_once(store):
    """The next one has it in the same moment, with a higher token, though it would have lasted for long."""
    token = store.leases.acquire("a", 600)

    assert store.leases.release("a")

    assert store.leases.holder() is None
    assert store.leases.acquire("b", 600) == token + 1


def test_who_released_it_and_takes_it_again_is_a_new_holder(store):
    """The token grows even where the owner is the same."""
    token = store.leases.acquire("a", 600)
    store.leases.release("a")

    assert store.leases.acquire("a", 600) == token + 1


def test_only_the_holder_can_release_it(store):
    """Another one's release does nothing."""
    store.leases.acquire("a", 600)

    with looks.nothing_changes(store):
        assert not store.leases.release("b")


def test_a_holder_that_was_succeeded_releases_nothing(store):
    """One whose lease ran out and was taken does not end the successor's."""
    store.leases.acquire("a", 1e-6)
    store.leases.acquire("b", 600)

    assert not store.leases.release("a")

    assert store.leases.holder() == "b"


def test_releasing_twice_or_what_was_never_held_is_no_release(store):
    """The second time, and before the first holder, there is nothing to give up."""
    assert not store.leases.release("a")
    store.leases.acquire("a", 600)

    assert [store.leases.release("a"), store.leases.release("a")] == [True, False]
