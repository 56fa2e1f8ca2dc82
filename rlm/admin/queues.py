"""The queues: how long and how old they are, and leftovers counted and dropped."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from rlm.core.trail import Place
from rlm.ledger.reading.backlog import MOST_ITEMS, oldest_in_ledger, read_waiting
from rlm.ledger.reading.books import books
from rlm.ledger.reading.waiting import walk
from rlm.ledger.scripts import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rlm.ledger import Store
    from rlm.ledger.reading.books import Books
    from rlm.ledger.reading.waiting import EventFilter


def queue_stats(store: Store) -> dict[str, Any]:
    """Return the lengths of the queues, and by type the pending events and the age of the oldest, seconds.

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
    """Return how long ago the earliest of these moments was, seconds; never negative, even if a clock is ahead."""
    known = [at for at in since if at is not None]
    return round(max(0.0, now - min(known)), 3) if known else None


class Dropped(NamedTuple):
    """How many leftovers were dropped, and whether a run was opened meanwhile, which takes the others."""

    number: int
    is_open: bool


def count_leftovers(store: Store, wanted: EventFilter) -> int:
    """Count the leftovers that match; while a run is open there are none.

    Raises:
        StoreError: Redis did not answer.
    """
    if wanted.wallet or wanted.item or wanted.older_seconds is not None:
        return sum(1 for _ in _leftovers(store, wanted))
    found = books(store)
    if found.run_id is not None:
        return 0
    return sum(one.counts.pending for name, one in found.by_type.items() if not wanted.types or name in wanted.types)


def drop_leftovers(store: Store, wanted: EventFilter, most: int) -> Dropped:
    """Remove the first `most` leftovers that match, for good, and forget their events: pushed again they are new ones.

    They are dropped in chunks, in constant memory, until a run is opened.

    Raises:
        StoreError: Redis did not answer; some may have been dropped.
    """
    number, found = 0, islice(_leftovers(store, wanted), most)
    while chunk := list(islice(found, CHUNK)):
        dropped, is_open = store.recovery.drop(chunk)
        number += dropped
        if is_open:
            return Dropped(number, is_open=True)
    return Dropped(number, is_open=number < most and store.runs.current() is not None)


def _leftovers(store: Store, wanted: EventFilter) -> Iterator[str]:
    """Yield the ids of the leftovers that match."""
    now = store.now_us() / 1_000_000
    of_leftovers = replace(wanted, states=frozenset({Place.LEFTOVER}))
    return (one.event_id for _, one in walk(store, of_leftovers) if one is not None and wanted.fits(one, now))
