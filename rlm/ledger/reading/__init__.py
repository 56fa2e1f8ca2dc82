"""The reading side of the ledger: the content of Redis as plain values; nothing is changed.

This file reads single events: where one is, since when it waits, and its trail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from rlm.core import trail
from rlm.core.item import BadItemError, decode_item, type_of
from rlm.core.trail import Place, TrailCall
from rlm.ledger.connect import text, translated
from rlm.ledger.events import LATER, read_due
from rlm.ledger.scripts import Command, batch
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole


class Waiter(NamedTuple):
    """A waiting event. `since` and `due` (the end of its back-off) are in seconds since 1970.

    On the audit list, `priority` is None if the item has none. `item` is the item as it came.
    """

    event_id: str
    wallet_name: str
    state: Place
    priority: int | None
    since: float | None
    due: float | None = None
    item: bytes = b""

    @property
    def item_id(self) -> str:
        """The id of its item."""
        return self.event_id.rpartition(":")[0]

    @property
    def type(self) -> str:
        """The name of its type."""
        return type_of(self.event_id)


class _Stamped(msgspec.Struct):
    timestamp: str = ""


def stamped_at(raw: bytes) -> float | None:
    """Return an item's `timestamp` (ISO 8601, UTC if without a zone) in seconds since 1970; None if it is invalid."""
    try:
        stamp = datetime.fromisoformat(msgspec.json.decode(raw, type=_Stamped).timestamp)
    except (ValueError, RecursionError):
        return None
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def waits_since(item: bytes | None, taken_at: bytes | None) -> float | None:
    """Return since when an event waits, from its item or else from when it was taken; None for a settled event."""
    if item is None:
        return None
    stamped = stamped_at(item)
    return stamped if stamped is not None or taken_at is None else reading(moment, taken_at, "taken_at", None)


def events_in(store: Store, raw: bytes) -> list[Waiter]:
    """Return the events of an item that is not taken yet; empty if the whole item will be a dead letter."""
    try:
        item = decode_item(raw, store.settings.queue.max_item_bytes)
    except BadItemError:
        return []
    since = stamped_at(raw)
    return [Waiter(event.id, item.wallet_name, Place.QUEUED, item.priority, since, item=raw) for event in item.events]


def fields_of(store: Store, event_ids: Iterable[str], *fields: str) -> list[list[bytes | None]]:
    """Return some fields of each event."""
    return batch(store.client, (("HMGET", store.keys.event(event_id), *fields) for event_id in event_ids))


class Later(NamedTuple):
    """An event that is not ready, and the moment in seconds since 1970 when its lease or its back-off ends.

    The moment of an event that spent its attempts is infinite.
    """

    event_id: str
    place: Place
    due: float


@translated()
def later_events(store: Store) -> dict[str, list[Later]]:
    """Return the events by type that only an open run may hold, those in flight first, all at one instant."""
    by_type: dict[str, list[Later]] = {}
    (reply,) = batch(store.client, [("ZRANGE", store.keys.due, 0, -1, "WITHSCORES")])
    for event_id, is_later, due in read_due(reply):
        place = Place.IN_FLIGHT if not is_later else Place.SPENT if due == math.inf else Place.BACKING_OFF
        by_type.setdefault(type_of(event_id), []).append(Later(event_id, place, due / MICROSECONDS))
    return by_type


class Whereabouts(msgspec.Struct, frozen=True):
    """The state of one event in the ledger. Times are seconds since 1970 by the clock of Redis.

    `due` is when its back-off or lease ends, `calling_since` the start of its call under way to `endpoint`. `position`
    counts from 1 among `of` ready events of its type. `calls` were made for it, the newest of which are `attempts`.
    """

    event_id: str
    now: float
    place: Place
    due: float = 0.0
    position: int | None = None
    of: int | None = None
    worker: str = ""
    endpoint: str = ""
    calling_since: float | None = None
    attempt: int = 0
    runs: int = 0
    calls: int = 0
    taken_at: float | None = None
    attempts: tuple[TrailCall, ...] = ()


def event_state(store: Store, event_id: str) -> Whereabouts | None:
    """Read the state of an event at one instant; None if the ledger does not know it."""
    keys, key = store.keys, store.keys.event(event_id)
    ready = keys.ready(type_of(event_id))
    read: list[Command] = [("HGETALL", key), ("TIME",), ("EXISTS", keys.run)]
    read += [("ZRANK", ready, event_id), ("ZCARD", ready)]
    read += [("ZSCORE", keys.due, member) for member in (event_id, f"{LATER}{event_id}")]
    fields, (seconds, microseconds), is_open, rank, pending, lease, due = batch(store.client, read, transaction=True)
    if not fields:
        return None
    place, ends = _settled(fields), 0.0
    if rank is not None:
        place = Place.PENDING if is_open else Place.LEFTOVER
    elif lease is not None:
        place, ends = Place.IN_FLIGHT, lease
    elif due is not None:
        place, ends = (Place.SPENT, 0.0) if due == math.inf else (Place.BACKING_OFF, due)
    is_calling = place is Place.IN_FLIGHT
    return Whereabouts(
        event_id,
        seconds + microseconds / MICROSECONDS,
        place,
        due=ends / MICROSECONDS,
        position=None if rank is None else rank + 1,
        of=None if rank is None else pending,
        worker=text(fields.get(b"owner", b"")).partition(" ")[0],
        endpoint=text(fields.get(b"endpoint", b"")) if is_calling else "",
        calling_since=reading(moment_of_us, fields.get(b"stamp"), key, None) if is_calling else None,
        attempt=reading(whole, fields.get(b"attempt"), key, 0),
        runs=reading(whole, fields.get(b"runs"), key, 0),
        calls=trail.written_in(fields),
        taken_at=reading(moment, fields.get(b"taken_at"), key, None),
        attempts=tuple(trail.read(fields)),
    )


def _settled(fields: Mapping[bytes, bytes]) -> Place:
    state = text(fields.get(b"state", b""))
    return Place(state) if state in {Place.COMPLETED, Place.FAILED} else Place.NOWHERE
