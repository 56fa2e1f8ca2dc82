"""Since when the oldest waits, by type, without going through what waits: for those who ask every few seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from rlm.ledger.connect import ESCAPED, translated
from rlm.ledger.intake import PRIORITY_STEP
from rlm.ledger.reading.backlog import stamped_at, waits_since
from rlm.ledger.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm.ledger import Store

_ITEM_BYTES = 1_000_000


def oldest_pending(store: Store, types: Sequence[str]) -> dict[str, float]:
    """Return by type since when the oldest pending event waits, seconds since 1970; a type without any is left out.

    Of each priority that is the one that came first, whose item's `timestamp` counts, else its arrival. As many round
    trips are made as a type has priorities waiting, and two more.

    Raises:
        StoreError: Redis did not answer.
    """
    first: dict[str, list[str]] = {}
    lowest = dict.fromkeys(types, 0)
    while lowest:
        with translated(store.client):
            pipeline = store.client.pipeline(transaction=False)
            for name, score in lowest.items():
                pipeline.zrangebyscore(store.keys.pending(name), score, "+inf", start=0, num=1, withscores=True)
            replies = dict(zip(lowest, pipeline.execute(), strict=True))
        lowest = {}
        for name, reply in replies.items():
            for event_id, score in reply:
                first.setdefault(name, []).append(event_id.decode(errors=ESCAPED))
                lowest[name] = (int(score) // PRIORITY_STEP + 1) * PRIORITY_STEP
    return _earliest(store, first)


def _earliest(store: Store, first: dict[str, list[str]]) -> dict[str, float]:
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=False)
        for ids in first.values():
            for event_id in ids:
                pipeline.hmget(store.keys.event(event_id), "item", "taken_at")
        replies = iter(cast("list[list[Any]]", pipeline.execute()))
    since = {name: [waits_since(*next(replies)) for _ in ids] for name, ids in first.items()}
    known = {name: [at for at in found if at is not None] for name, found in since.items()}
    return {name: min(found) for name, found in known.items() if found}


def oldest_listed(store: Store) -> float | None:
    """Return the `timestamp` of the oldest item on the audit list, seconds since 1970; None where it tells none.

    Raises:
        StoreError: Redis did not answer.
    """
    longest = store.settings.queue.max_item_bytes
    items = Script("look_items")(store.client, [store.keys.events], [0, 1, _ITEM_BYTES, longest])
    return stamped_at(items[0]) if items else None
