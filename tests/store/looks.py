"""Reads the store's data without its typed methods: where an event is, its hash, dead letters, every key."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from rlm.core.item import type_of
from tests.store.steps import TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.core.run import Run
    from rlm.core.trail import Counts
    from rlm.ledger import Store


def where(store: Store, event_id: str) -> list[str]:
    """Return the zsets of its type that contain an event: one while it is unsettled, none afterwards."""
    name, keys = type_of(event_id), store.keys
    zsets = {
        "pending": keys.pending(name),
        "inflight": keys.inflight(name),
        "backoff": keys.backoff(name),
        "spent": keys.spent(name),
        "retried": keys.retried(name),
    }
    pipeline = store.client.pipeline(transaction=True)
    for key in zsets.values():
        pipeline.zscore(key, event_id)
    return [state for state, score in zip(zsets, pipeline.execute(), strict=True) if score is not None]


def pending(store: Store, type_name: str = TYPE) -> list[str]:
    """Return the pending events of a type in their order."""
    return [one.decode() for one in cast("list[bytes]", store.client.zrange(store.keys.pending(type_name), 0, -1))]


def released(store: Store) -> list[str]:
    """Return the types of the released calls, next first."""
    return [release.of.type for release in store.turns.releases()]


def retried(store: Store) -> int:
    """Count the events for the next run whose dead letters were retried."""
    return store.client.zcard(store.keys.retried(TYPE))


def counts(store: Store, type_name: str = TYPE) -> Counts:
    """Count the events of a type by where they are."""
    return store.ledger.count([type_name])[type_name]


def event(store: Store, event_id: str) -> dict[str, str]:
    """Read the hash of an event."""
    found = cast("dict[bytes, bytes]", store.client.hgetall(store.keys.event(event_id)))
    return {name.decode(): value.decode() for name, value in found.items()}


def tally(store: Store, run: Run) -> dict[str, int]:
    """Read the counts of an open run that are not zero."""
    return {name: number for name, number in store.runs.tally(run.id).items() if number}


def letters(store: Store) -> list[dict[str, Any]]:
    """Read the dead letters, oldest first."""
    return [json.loads(raw) for raw in reversed(cast("list[bytes]", store.client.lrange(store.keys.failed, 0, -1)))]


def calls(store: Store, worker: str) -> dict[str, str]:
    """Return the calls of a worker in flight."""
    found = cast("dict[bytes, bytes]", store.client.hgetall(store.keys.calls(worker)))
    return {name.decode(): value.decode() for name, value in found.items()}


def redis_us(store: Store) -> int:
    """Return the time by the clock of Redis, in microseconds."""
    return store.windows.look(())[0]


def snapshot(store: Store) -> dict[str, Any]:
    """Return every key of the test and whether it expires, in two round trips."""
    client: Any = store.client
    keys = sorted(client.scan_iter(match=f"*{store.settings.redis.prefix}*", count=1000))
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.type(key)
    for key, kind in zip(keys, pipeline.execute(), strict=True):
        _read(pipeline, key, kind)
        pipeline.pttl(key)
    values = iter(pipeline.execute())
    return {key.decode(): (value, ttl >= 0) for key, value, ttl in zip(keys, values, values, strict=True)}


def _read(pipeline: Any, key: bytes, kind: bytes) -> None:
    match kind:
        case b"string":
            pipeline.get(key)
        case b"hash":
            pipeline.hgetall(key)
        case b"set":
            pipeline.smembers(key)
        case b"list":
            pipeline.lrange(key, 0, -1)
        case b"zset":
            pipeline.zrange(key, 0, -1, withscores=True)


@contextmanager
def nothing_changes(store: Store, *except_for: str) -> Iterator[None]:
    """Fail if the block changes any key other than those in `except_for`."""
    before = snapshot(store)
    yield
    after = snapshot(store)
    for key in except_for:
        before.pop(key, None)
        after.pop(key, None)
    assert after == before
