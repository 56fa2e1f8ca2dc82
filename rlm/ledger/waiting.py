"""What waits: one event with its trail, events and items one by one, and both counted; nothing is changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rlm.core.call import trail_of
from rlm.core.clock import isoformat
from rlm.core.documents import Attempt, WaitingEvent, WaitingList
from rlm.core.item import MAX_PRIORITY, PRIORITY_STEP, BadItemError, Item, Place, decode_item, event_id, type_of
from rlm.core.text import Duration, Text, Texts, seconds_in
from rlm.ledger.books import Books, books
from rlm.ledger.connect import text, translated
from rlm.ledger.events import LATER, read_due, scored
from rlm.ledger.scripts import CHUNK, Command, ask, batch
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole

#: The states of waiting events, in the order of the list.
WAITING = (Place.PENDING, Place.LEFTOVER, Place.BACKING_OFF, Place.SPENT, Place.QUEUED)
#: The most items that are read to count their events, and the most events looked at for one page of a list.
MOST_ITEMS = MOST_LOOKED = 100_000
#: How many events are read at once.
PAGE = 200


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
    attempts: tuple[Attempt, ...] = ()


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
    ends, state = 0.0, text(fields.get(b"state", b""))
    if rank is not None:
        place = Place.PENDING if is_open else Place.LEFTOVER
    elif lease is not None:
        place, ends = Place.IN_FLIGHT, lease
    elif due is not None:
        place, ends = (Place.SPENT, 0.0) if due == math.inf else (Place.BACKING_OFF, due)
    else:
        place = Place(state) if state in {Place.COMPLETED, Place.FAILED} else Place.NOWHERE
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
        calls=reading(whole, fields.get(b"trail"), key, 0),
        taken_at=reading(moment, fields.get(b"taken_at"), key, None),
        attempts=tuple(trail_of(fields)),
    )


class _Stamped(msgspec.Struct):
    timestamp: str = ""


def stamped_at(raw: bytes) -> float | None:
    """Return an item's `timestamp` (ISO 8601, UTC if without a zone) in seconds since 1970; None if it is invalid."""
    try:
        stamp = datetime.fromisoformat(msgspec.json.decode(raw, type=_Stamped).timestamp)
    except (ValueError, RecursionError):
        return None
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def _since(item: bytes, taken_at: bytes | None) -> float | None:
    """Return since when an event in the ledger waits, from its item or else from when it was taken."""
    stamped = stamped_at(item)
    return stamped if stamped is not None else reading(moment, taken_at, "taken_at", None)


def _decoded(store: Store, raw: bytes) -> Item | None:
    """Return an item that is not taken yet; None if it will be a dead letter as a whole."""
    try:
        return decode_item(raw, store.settings.queue.max_item_bytes)
    except BadItemError:
        return None


def events_in(store: Store, raw: bytes, now: float = 0.0) -> list[WaitingEvent]:
    """Return the events of an item that is not taken yet; empty if the whole item will be a dead letter."""
    if (item := _decoded(store, raw)) is None:
        return []
    priority = None if item.priority is msgspec.UNSET else item.priority
    make = partial(_waiting, wallet_name=item.wallet_name, state=Place.QUEUED, priority=priority)
    times = now, stamped_at(raw)
    return [make(event_id(item.id, name), times, item=msgspec.Raw(raw)) for name in item.types]


def _waiting(event: str, times: tuple[float, float | None], due: float | None = None, **more: Any) -> WaitingEvent:
    """Return an event that waits; `times` are now and since when, `due` when its back-off ends."""
    (item_id, _, type_name), (now, since) = event.rpartition(":"), times
    return WaitingEvent(
        event_id=event,
        type=type_name,
        item_id=item_id,
        since=None if since is None else isoformat(since),
        waiting_seconds=None if since is None else round(max(0.0, now - since), 3),
        due_in_seconds=None if due is None else round(max(0.0, due - now), 3),
        **more,
    )


def _fields_of(store: Store, event_ids: Iterable[str], *fields: str) -> list[list[bytes | None]]:
    return batch(store.client, (("HMGET", store.keys.event(event), *fields) for event in event_ids))


@translated()
def _later(store: Store) -> dict[str, list[tuple[str, Place, float]]]:
    """Return by type the events that only an open run may hold, those in flight first.

    Each with its place and when its lease or its back-off ends, seconds since 1970; infinite if it spent its attempts.
    """
    by_type: dict[str, list[tuple[str, Place, float]]] = {}
    (reply,) = batch(store.client, [("ZRANGE", store.keys.due, 0, -1, "WITHSCORES")])
    for event, is_later, due in read_due(reply):
        place = Place.IN_FLIGHT if not is_later else Place.SPENT if due == math.inf else Place.BACKING_OFF
        by_type.setdefault(type_of(event), []).append((event, place, due / MICROSECONDS))
    return by_type


class EventFilter(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, rename="kebab"):
    """Which events: those that match each criterion given, and one of the types and states."""

    type: Texts = []
    wallet: Text = ""
    item: Text = ""
    older_than: Duration | None = None
    state: Annotated[list[Place], Meta(max_length=10)] = []

    def __bool__(self) -> bool:
        """Return whether there is any criterion."""
        return any((self.type, self.wallet, self.item, self.older_than is not None, self.state))

    def fits(self, event: WaitingEvent) -> bool:
        """Return whether an event matches."""
        return (
            (not self.type or event.type in self.type)
            and (not self.wallet or event.wallet_name == self.wallet)
            and (not self.item or event.item_id == self.item)
            and (self.older_than is None or (event.waiting_seconds or 0.0) >= seconds_in(self.older_than))
            and (not self.state or event.state in self.state)
        )


def waiting_page(store: Store, chosen: EventFilter, number: int, after: int = 0) -> WaitingList:
    """Return the first `number` matching events behind the first `after` places.

    Types come in the configured order. Within a type, ready events come first, then those
    backing off and those out of attempts. Staging and the audit list come last, the oldest item first; an item is one
    place. Events that move meanwhile may be missed or appear twice.
    """
    events = list[WaitingEvent]()
    for place, at_place in enumerate(islice(walk(store, chosen, after), MOST_LOOKED), start=after + 1):
        events += [event for event in at_place if chosen.fits(event)]
        if len(events) >= number or place == after + MOST_LOOKED:
            return WaitingList(events=tuple(events), next=place)
    return WaitingList(events=tuple(events), next=None)


def walk(store: Store, chosen: EventFilter, after: int = 0) -> Iterator[Sequence[WaitingEvent]]:
    """Yield what may match: at each place an event of the ledger, or the events of an item; nothing if it is gone."""
    ready = Place.PENDING if ask(store.client, "EXISTS", store.keys.run) else Place.LEFTOVER
    later, now = _later(store), store.now()
    for name in store.known_types:
        if chosen.type and name not in chosen.type:
            continue
        if not chosen.state or ready in chosen.state:
            yield from _waiters(store, _ready(store, name, after), ready, now)
            after = max(0, after - ask(store.client, "ZCARD", store.keys.ready(name)))
        for place in (Place.BACKING_OFF, Place.SPENT):
            if not chosen.state or place in chosen.state:
                due = sorted((at, event) for event, where, at in later.get(name, ()) if where is place)
                yield from _waiters(store, ((event, at) for at, event in due[after:]), place, now)
                after = max(0, after - len(due))
    if not chosen.state or Place.QUEUED in chosen.state:
        yield from (events_in(store, raw, now) for raw in items_of(store, after))


def _ready(store: Store, name: str, start: int) -> Iterator[tuple[str, float]]:
    key = store.keys.ready(name)
    while page := list(scored(ask(store.client, "ZRANGE", key, start, start + PAGE - 1, "WITHSCORES"))):
        yield from page
        start += len(page)


def _waiters(
    store: Store, ids: Iterable[tuple[str, float]], place: Place, now: float
) -> Iterator[Sequence[WaitingEvent]]:
    """Read events page by page; with each id comes its order if it is ready, else the moment when it is due."""
    ids, is_ready = iter(ids), place in {Place.PENDING, Place.LEFTOVER}
    while page := list(islice(ids, PAGE)):
        entries = _fields_of(store, (event for event, _ in page), "wallet", "item", "taken_at", "score")
        for (event, at), (wallet, item, taken_at, order) in zip(page, entries, strict=True):
            score = int(at) if is_ready else reading(whole, order, event, 0)
            more = {
                "wallet_name": text(wallet or b""),
                "state": place,
                "priority": max(0, MAX_PRIORITY - score // PRIORITY_STEP),
                "item": msgspec.Raw(item or b""),
            }
            due = at if place is Place.BACKING_OFF else None
            yield [] if item is None else [_waiting(event, (now, _since(item, taken_at)), due, **more)]


def items_of(store: Store, skip: int = 0) -> Iterator[bytes]:
    """Yield the items of staging, then of the audit list, behind the `skip` oldest; one too large comes empty."""
    for items in (store.keys.processing, store.keys.events):
        length = ask(store.client, "LLEN", items)
        while page := store.intake.look(items, skip, CHUNK):
            yield from page
            skip += len(page)
        skip = max(0, skip - length)


class Backlog(msgspec.Struct, frozen=True):
    """What waits: events by type, and for how many seconds the oldest; `books` are of the same instant."""

    events: Mapping[str, int]
    oldest: Mapping[str, float]
    books: Books


def backlog(store: Store) -> Backlog:
    """Count what waits, and since when; events that a drain takes meanwhile may count twice.

    On staging and audit list, the events of configured types in the `MOST_ITEMS` oldest items are counted.
    """
    now, queued, oldest = store.now(), Counter[str](), dict[str, float]()
    for raw in islice(items_of(store), MOST_ITEMS):
        item = _decoded(store, raw)
        for name in store.settings.types.keys() & (item.types if item else ()):
            queued[name] += 1
            _note(oldest, name, now, stamped_at(raw))
    entries = books(store)
    for name, seconds in oldest_in_ledger(store, list(entries.by_type)).items():
        oldest[name] = max(seconds, oldest.get(name, 0.0))
    in_ledger = {name: account.unsettled for name, account in entries.by_type.items()}
    events = {name: in_ledger.get(name, 0) + queued[name] for name in {**store.settings.types, **in_ledger}}
    return Backlog(events, oldest, entries)


def oldest_in_ledger(store: Store, types: Iterable[str]) -> dict[str, float]:
    """Return by type for how many seconds the oldest event waits in the ledger, without types that have none.

    It counts from the item's `timestamp`, or else from when it was taken. The first `PAGE` ready events of each
    priority are read, which came before its others, and the first of those that are not ready.
    """
    now, ids = store.now(), [event for events in _later(store).values() for event, *_ in events[:PAGE]]
    for name in types:
        start, first = 0, ("WITHSCORES", "LIMIT", 0, PAGE)
        while page := list(scored(ask(store.client, "ZRANGEBYSCORE", store.keys.ready(name), start, "+inf", *first))):
            ids += [event for event, _ in page]
            start = (int(page[-1][1]) // PRIORITY_STEP + 1) * PRIORITY_STEP
    oldest: dict[str, float] = {}
    for event, (item, taken_at) in zip(ids, _fields_of(store, ids, "item", "taken_at"), strict=True):
        if item is not None:
            _note(oldest, type_of(event), now, _since(item, taken_at))
    return oldest


def _note(oldest: dict[str, float], name: str, now: float, since: float | None) -> None:
    if since is not None:
        oldest[name] = max(round(now - since, 3), oldest.get(name, 0.0))  # a clock may be ahead
