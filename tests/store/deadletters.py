"""Dead letters for tests of the store: written by the drain or by a worker, and read back."""

from __future__ import annotations

from collections.abc import Mapping

from rlm.admin.letters import Deal, order_of
from rlm.core.run import Run
from rlm.ledger.store import Store
from tests.store import steps


def reject(store: Store) -> bytes:
    """Let the run's next event be rejected by its endpoint; return its letter."""
    assert steps.reject(store, steps.claim(store))
    return newest(store)


def reject_at_intake(store: Store, token: int, raw: bytes) -> bytes:
    """Let a bad item become a letter in its own run; return the letter."""
    steps.push(store, raw)
    close(store, token, steps.start_run(store, token))
    return newest(store)


def close(store: Store, token: int, run: Run) -> None:
    """Close a run; its unsettled events are ready."""
    steps.finish(store, token, run)
    assert store.runs.close(run.id, {}, store.runs.tally(), wanted=0) == 1


def newest(store: Store) -> bytes:
    """Return the newest letter."""
    return next(store.letters.all())


def retry(store: Store, letter: bytes, priorities: Mapping[str, int] | None = None) -> bool:
    """Retry a letter, by default under the configured types; return whether that was done, or raise why not."""
    return store.letters.remove([order_of(letter, Deal.RETRY, priorities or steps.priorities(store))]) == [1]


def drop(store: Store, letter: bytes) -> bool:
    """Drop a letter; return whether that was done."""
    return store.letters.remove([order_of(letter, Deal.DROP, {})]) == [1]


def outlived(store: Store, token: int) -> bytes:
    """Return the letter of an event that the run under way has taken anew, because nothing remembered it."""
    steps.push(store, steps.item("i1", steps.TYPE))
    run = steps.start_run(store, token)
    letter = reject(store)
    close(store, token, run)
    steps.push(store, steps.item("i1", steps.TYPE))
    steps.start_run(store, token)
    return letter
