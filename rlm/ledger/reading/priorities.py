"""In which order a type's events go: how many of each priority there are in the ledger. Read and left in place."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

from rlm.core.event import MAX_PRIORITY
from rlm.ledger.connect import ESCAPED, translated
from rlm.ledger.intake import PRIORITY_STEP, order_offset
from rlm.plan.division import Ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.core.run import Run
    from rlm.ledger import Store

_PAGE = 200
_PRIORITIES = range(MAX_PRIORITY + 1)


def ranks_in_ledger(store: Store, type_name: str, run: Run | None) -> Ranks:
    """Count a type's events in the ledger by priority. What was retried by hand is new, as it is to the next run.

    So is what the open `run` took. While one is open, an event that moves meanwhile may be missed or counted twice.

    Raises:
        StoreError: Redis did not answer.
    """
    keys = store.keys
    until = PRIORITY_STEP if run is None or run.ever_taken is None else run.ever_taken + 1
    pending, retried = _by_score(store, keys.pending(type_name)), _by_score(store, keys.retried(type_name))
    carried = pending if until == PRIORITY_STEP else _by_score(store, keys.pending(type_name), until)
    held = [score for holder in keys.holders(type_name) for score in _scores(store, holder)]
    held_before = Counter(_priority(score) for score in held if score % PRIORITY_STEP < until)
    new = pending - carried + (Counter(map(_priority, held)) - held_before)
    return Ranks(carried=carried + held_before, new=new + retried)


def _by_score(store: Store, zset: str, until: int = PRIORITY_STEP) -> Counter[int]:
    """Count the events of a zset that is in order of priority, those before `until` in the sequence of arrivals."""
    with translated(store.client):
        if not store.client.exists(zset):
            return Counter()
        pipeline = store.client.pipeline(transaction=False)
        for priority in _PRIORITIES:
            first = order_offset(priority)
            pipeline.zcount(zset, first, f"({first + until}")
        return +Counter(dict(zip(_PRIORITIES, pipeline.execute(), strict=True)))


def _priority(score: int) -> int:
    return MAX_PRIORITY - score // PRIORITY_STEP


def _scores(store: Store, zset: str) -> Iterator[int]:
    """Yield the order score of each event in a zset that is in another order."""
    start = 0
    while True:
        with translated(store.client):
            ids = cast("list[bytes]", store.client.zrange(zset, start, start + _PAGE - 1))
            if not ids:
                return
            pipeline = store.client.pipeline(transaction=False)
            for one in ids:
                pipeline.hget(store.keys.event(one.decode(errors=ESCAPED)), "score")
            scores = pipeline.execute()
        yield from (int(score) for score in scores if score is not None)
        start += len(ids)
