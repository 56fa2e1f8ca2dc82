"""Reads the store's data without its typed methods: where an event is, its hash, dead letters, every key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from rlm.core.item import Counts, type_of
from rlm.ledger.processes import Role
from rlm.ledger.store import Store
from tests.store.steps import TYPE


def where(store: Store, event_id: str) -> list[str]:
    """Return the places that contain an event: one while it is unsettled, none afterwards."""
    keys = store.keys
    pipeline = store.client.pipeline(transaction=True)
    pipeline.zscore(keys.ready(type_of(event_id)), event_id)
    pipeline.zscore(keys.due, event_id)
    pipeline.zscore(keys.due, f"later {event_id}")
    found = zip(("ready", "inflight", "backoff"), pipeline.execute(), strict=True)
    return ["spent" if score == math.inf else state for state, score in found if score is not None]


def pending(store: Store, type_name: str = TYPE) -> list[str]:
    """Return the ready events of a type in their order."""
    return [one.decode() for one in cast("list[bytes]", store.client.zrange(store.keys.ready(type_name), 0, -1))]


def counts(store: Store, type_name: str = TYPE) -> Counts:
    """Count the events of a type by where they are."""
    return store.ledger.count([type_name])[type_name]


def event(store: Store, event_id: str) -> dict[str, str]:
    """Read the hash of an event."""
    found = cast("dict[bytes, bytes]", store.client.hgetall(store.keys.event(event_id)))
    return {name.decode(): value.decode() for name, value in found.items()}


def tally(store: Store) -> dict[str, int]:
    """Read the counts of the open run, or for the next one, that are not zero."""
    found = cast("dict[bytes, bytes]", store.client.hgetall(store.keys.tally))
    return {name.decode(): int(number) for name, number in found.items() if int(number)}


def letters(store: Store) -> list[dict[str, Any]]:
    """Read the dead letters, oldest first."""
    return [json.loads(raw) for raw in reversed(cast("list[bytes]", store.client.lrange(store.keys.failed, 0, -1)))]


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
        case b"stream":
            pipeline.xrange(key)


def missing(store: Store, role: Role) -> list[str]:
    """Return the processes of a role that are unheard of but were not forgotten."""
    return [process_id for process_id, process, _ in store.processes.register().entries[role] if process is None]


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
