"""How long the queues are and how old: what `rlm queue stats` and the dashboard show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.ledger.reading.backlog import MOST_ITEMS, oldest_in_ledger, read_waiting
from rlm.ledger.reading.books import books

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rlm.ledger import Store
    from rlm.ledger.reading.books import Books


def queue_stats(store: Store) -> dict[str, Any]:
    """Return the lengths of the queues, and by type what is pending and since how many seconds.

    `events` wait on the audit list, `staged` in a drain that was cut short, `failed` are dead letters. What is
    unsettled in the ledger is `processing` while a run is open, else `leftover`; `retried` is for the next run. By
    type, `pending` counts all events that wait, in the ledger and in the items. The lists are read after the ledger:
    while a drain is moving items between them, an event may be missed.

    Raises:
        StoreError: Redis did not answer.
    """
    found, waiting = books(store), read_waiting(store)
    configured = [one.name for one in store.settings.event_types]
    others = [name for name, one in found.by_type.items() if name not in configured and one.unsettled + one.retried]
    by_type = {}
    for name in (*configured, *others):
        account = found.by_type[name]
        in_ledger = oldest_in_ledger(store, name, MOST_ITEMS // len(found.by_type))
        by_type[name] = {
            "pending": account.unsettled + account.retried + waiting.events[name],
            "oldest_seconds": _age(found.now, (in_ledger, waiting.oldest.get(name))),
        }
    return {**lengths(found), "by_type": by_type}


def lengths(found: Books) -> dict[str, int]:
    """Return the lengths of the queues by the books, under the keys of `queue_stats`."""
    return {
        "events": found.events,
        "staged": found.staged,
        "processing": found.unsettled if found.run_id else 0,
        "failed": found.letters,
        "leftover": 0 if found.run_id else found.unsettled,
        "retried": found.retried,
    }


def _age(now: float, since: Iterable[float | None]) -> float | None:
    """Return how long ago the earliest of these moments was, seconds; a clock that is ahead makes nothing negative."""
    known = [at for at in since if at is not None]
    return round(max(0.0, now - min(known)), 3) if known else None
