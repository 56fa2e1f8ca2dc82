"""The reading side of the ledger: the content of Redis as plain values; nothing is changed.

This file reads single events and items: where one is, since when it waits, and how many are due.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from rlm.core import trail
from rlm.core.item import BadItemError, decode_item, type_of
from rlm.core.run import run_at
from rlm.core.trail import Place, TrailCall
from rlm.ledger import Store
from rlm.ledger.connect import text, translated
from rlm.ledger.events import scored
from rlm.ledger.letters import Envelope
from rlm.ledger.scripts import Command, ask, batch
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole

#: The counts of `Whereabouts` and the fields of an event's hash that hold them; 0 if missing.
_COUNTS = {name: name.encode() for name in ("attempt", "tries", "runs", "deaths", "unsent")}
#: How many events are read at once.
PAGE = 200


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
        moment = datetime.fromisoformat(msgspec.json.decode(raw, type=_Stamped).timestamp)
    except (ValueError, RecursionError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


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
    return [Waiter(one.id, item.wallet_name, Place.QUEUED, item.priority, since, item=raw) for one in item.events]


def fields_of(store: Store, event_ids: Iterable[str], *fields: str) -> list[list[bytes | None]]:
    """Return some fields of each event."""
    return batch(store.client, (("HMGET", store.keys.event(one), *fields) for one in event_ids))


def field_of_each(store: Store, event_ids: Sequence[str], field: str) -> list[str]:
    """Return a field of each event, empty if it is missing."""
    return [text(value or b"") for (value,) in fields_of(store, event_ids, field)]


def ready_fields(store: Store, type_name: str, *fields: str) -> Iterator[tuple[str, list[bytes | None]]]:
    """Yield each ready event of a type with some of its fields, page by page."""
    start = 0
    while ids := list(map(text, ask(store.client, "ZRANGE", store.keys.ready(type_name), start, start + PAGE - 1))):
        yield from zip(ids, fields_of(store, ids, *fields), strict=True)
        start += len(ids)


class Held(NamedTuple):
    """An event that is not ready, and the moment in seconds since 1970 when its lease or its back-off ends.

    The moment of an event that spent its attempts is infinite.
    """

    event_id: str
    place: Place
    due: float


@translated()
def held_events(store: Store) -> dict[str, list[Held]]:
    """Return the events by type that only an open run may hold, those in flight first, all at one instant."""
    keys = store.keys
    read: list[Command] = [("ZRANGE", key, 0, -1, "WITHSCORES") for key in (keys.inflight, keys.backoff)]
    found: dict[str, list[Held]] = {}
    for place, reply in zip(
        (Place.IN_FLIGHT, Place.BACKING_OFF), batch(store.client, read, transaction=True), strict=True
    ):
        for event_id, due in scored(reply):
            where = Place.SPENT if place is Place.BACKING_OFF and due == math.inf else place
            found.setdefault(type_of(event_id), []).append(Held(event_id, where, due / MICROSECONDS))
    return found


class Whereabouts(msgspec.Struct, frozen=True):
    """The state of one event, in the ledger, before it or after it. Times are seconds since 1970 by the clock of Redis.

    `due` is when its back-off or lease ends. `position` counts from 1, among `of` pending
    events of its type or, for a queued one, whose item is not taken yet, among the items. A queued item is `staged`
    if a drain is under way or was interrupted, and has a `fault` if it will become a dead letter. `called` has the
    endpoint and the start of its call under way.
    """

    event_id: str
    now: float
    place: Place
    due: float = 0.0
    position: int | None = None
    of: int | None = None
    worker: str = ""
    called: tuple[str, float] | None = None
    attempt: int = 0
    tries: int = 0
    runs: int = 0
    deaths: int = 0
    unsent: int = 0
    calls: int = 0
    taken_at: float | None = None
    taken_in: str | None = None
    last: str = ""
    attempts: tuple[TrailCall, ...] = ()
    staged: bool = False
    fault: str = ""
    letter: Envelope | None = None

    @property
    def claims(self) -> int:
        """How often a lane has claimed it."""
        return self.calls + self.unsent + (self.place is Place.IN_FLIGHT)


def event_state(store: Store, event_id: str) -> Whereabouts | None:
    """Read the state of an event at one instant; None if the ledger does not know it."""
    keys, key = store.keys, store.keys.event(event_id)
    ready = keys.ready(type_of(event_id))
    read: list[Command] = [
        ("HGETALL", key),
        ("TIME",),
        ("HGET", keys.run, "run_id"),
        ("HKEYS", keys.records),
    ]
    read += [("ZRANK", ready, event_id), ("ZCARD", ready)]
    read += [("ZSCORE", zset, event_id) for zset in (keys.inflight, keys.backoff)]
    fields, (seconds, microseconds), current, runs, rank, pending, lease, due = batch(
        store.client, read, transaction=True
    )
    if not fields:
        return None
    place, score = _settled(fields), 0.0
    if rank is not None:
        place = Place.LEFTOVER if current is None else Place.PENDING
    elif lease is not None:
        place, score = Place.IN_FLIGHT, lease
    elif due is not None:
        place, score = (Place.SPENT, 0.0) if due == math.inf else (Place.BACKING_OFF, due)
    counts: dict[str, Any] = {name: reading(whole, fields.get(field), key, 0) for name, field in _COUNTS.items()}
    endpoint, since = text(fields.get(b"endpoint", b"")), reading(moment_of_us, fields.get(b"stamp"), key, None)
    taken_at = reading(moment, fields.get(b"taken_at"), key, None)
    taken_in = None
    if taken_at is not None and b"retried" not in fields:
        taken_in = run_at(sorted(map(text, [current, *runs] if current else runs), reverse=True), taken_at)
    return Whereabouts(
        event_id,
        seconds + microseconds / MICROSECONDS,
        place,
        due=score / MICROSECONDS,
        position=None if rank is None else rank + 1,
        of=None if rank is None else pending,
        worker=text(fields.get(b"owner", b"")).partition(" ")[0],
        called=(endpoint, since) if place is Place.IN_FLIGHT and endpoint and since is not None else None,
        **counts,
        calls=trail.written_in(fields),
        taken_at=taken_at,
        taken_in=taken_in,
        last=text(fields.get(b"last", b"")),
        attempts=tuple(trail.read(fields)),
    )


def _settled(fields: Mapping[bytes, bytes]) -> Place:
    state = text(fields.get(b"state", b""))
    return Place(state) if state in {Place.COMPLETED, Place.FAILED} else Place.NOWHERE
