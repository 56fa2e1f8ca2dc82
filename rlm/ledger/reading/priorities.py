"""In which order a type's events go: how many of each priority there are in the ledger. Read and left in place."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

from rlm.core.event import MAX_PRIORITY
from rlm.ledger.connect import text, translated
from rlm.ledger.intake import PRIORITY_STEP, order_offset
from rlm.plan.sacrifice import Ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store

_PAGE = 200
_PRIORITIES = range(MAX_PRIORITY + 1)


def ranks_in_ledger(store: Store, type_name: str) -> Ranks:
    """Count a type's events in the ledger by priority. What was retried by hand is new, as it is to the next run.

    While a run is open, an event that moves meanwhile may be missed or counted twice.
    """
    keys = store.keys
    pending, retried = _by_score(store, keys.pending(type_name)), _by_score(store, keys.retried(type_name))
    held = Counter(priority for holder in keys.holders(type_name) for priority in _by_event(store, holder))
    return Ranks(carried=pending + held, new=retried)


def _by_score(store: Store, zset: str) -> Counter[int]:
    """Count the events of a zset that is in order of priority, without going through them."""
    with translated(store.client):
        if not store.client.exists(zset):
            return Counter()
        pipeline = store.client.pipeline(transaction=False)
        for priority in _PRIORITIES:
            first = order_offset(priority)
            pipeline.zcount(zset, first, f"({first + PRIORITY_STEP}")
        return +Counter(dict(zip(_PRIORITIES, pipeline.execute(), strict=True)))


def _by_event(store: Store, zset: str) -> Iterator[int]:
    """Yield the priority of each event in a zset that is in another order."""
    start = 0
    while True:
        with translated(store.client):
            ids = cast("list[bytes]", store.client.zrange(zset, start, start + _PAGE - 1))
            if not ids:
                return
            pipeline = store.client.pipeline(transaction=False)
            for one in ids:
                pipeline.hget(store.keys.event(text(one)), "score")
            scores = pipeline.execute()
        yield from (MAX_PRIORITY - int(score) // PRIORITY_STEP for score in scores if score is not None)
        start += len(ids)
