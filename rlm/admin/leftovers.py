"""What a person may do with leftovers: count those that fit, drop them for good."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from rlm.core.trail import Place
from rlm.ledger.connect import translated
from rlm.ledger.events import CHUNK
from rlm.ledger.reading.waiting import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.reading.waiting import EventFilter


class Dropped(NamedTuple):
    """How many leftovers were dropped, and whether a run was opened meanwhile, which took the others up."""

    number: int
    is_open: bool


def count_leftovers(store: Store, wanted: EventFilter) -> int:
    """Count the leftovers that fit; while a run is open nothing is left over.

    Raises:
        StoreError: Redis did not answer.
    """
    if wanted.wallet or wanted.item or wanted.older_seconds is not None:
        return sum(1 for _ in _leftovers(store, wanted))
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=True)
        pipeline.exists(store.keys.current)
        for name in store.known_types:
            if not wanted.types or name in wanted.types:
                pipeline.zcard(store.keys.pending(name))
        is_open, *lengths = pipeline.execute()
    return 0 if is_open else sum(lengths)


def drop_leftovers(store: Store, wanted: EventFilter, most: int) -> Dropped:
    """Remove the first `most` leftovers that fit, for good, and forget their events: seen again they are new ones.

    Each is dropped in a step of its own, in constant memory; at the first run that is open it ends.

    Raises:
        StoreError: Redis did not answer; some may have been dropped.
    """
    number, found = 0, islice(_leftovers(store, wanted), most)
    while chunk := list(islice(found, CHUNK)):
        dropped, is_open = store.ledger.drop(chunk)
        number += dropped
        if is_open:
            return Dropped(number, is_open=True)
    return Dropped(number, is_open=number < most and store.runs.current() is not None)


def _leftovers(store: Store, wanted: EventFilter) -> Iterator[str]:
    """Yield the ids of the leftovers that fit."""
    now = store.now_us() / 1_000_000
    of_leftovers = replace(wanted, states=frozenset({Place.LEFTOVER}))
    return (one.event_id for _, one in walk(store, of_leftovers) if one is not None and wanted.fits(one, now))
