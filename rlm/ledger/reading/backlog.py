"""What waits: events in the ledger, items in staging and on the audit list; read page by page and left in place."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from rlm.core.event import MAX_PRIORITY, BadItemError, decode_item
from rlm.ledger.connect import text, translated
from rlm.ledger.intake import PRIORITY_STEP, order_offset
from rlm.ledger.lists import list_pages
from rlm.ledger.reading.books import books
from rlm.ledger.scripts import batch
from rlm.plan.order import Ranks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.event import Event
    from rlm.core.run import Run
    from rlm.ledger import Store

#: Items read at the most, the oldest; the rest is only counted.
MOST_ITEMS = 100_000

_PAGE_ITEMS = 200
_PAGE_BYTES = 1_000_000


@dataclass(slots=True)
class Waiting:
    """What the items in staging and on the audit list will become, as far as they were read.

    `events` are counted by type, `ranked` by type and the priority of the item, None if it has none;
    `oldest` is by type the earliest valid timestamp in seconds since 1970; `letters` is how many dead letters there
    will be, `unread` how many items were not read.
    """

    items: int = 0
    unread: int = 0
    letters: int = 0
    duplicates: int = 0
    events: Counter[str] = field(default_factory=Counter)
    ranked: dict[str, Counter[int | None]] = field(default_factory=lambda: defaultdict(Counter))
    oldest: dict[str, float] = field(default_factory=dict)


class _Read(NamedTuple):
    """An event on the list, with its item's priority and time in seconds since 1970, None if it has none."""

    event: Event
    priority: int | None
    at: float | None


class _Stamped(msgspec.Struct):
    timestamp: object = None


def stamped_at(raw: bytes) -> float | None:
    """Return the time in an item's `timestamp`, seconds since 1970, or None if it is none.

    It is ISO 8601; without a zone it is UTC.
    """
    try:
        text = msgspec.json.decode(raw, type=_Stamped).timestamp
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def read_waiting(store: Store, *, dedupe: bool = False) -> Waiting:
    """Read what waits in staging and on the audit list, at most the `MOST_ITEMS` oldest, in constant memory.

    With `dedupe`, events that were read before or that the ledger knows are counted as duplicates, as a run would.
    """
    found, seen = Waiting(), set[str]()
    for page in item_pages(store):
        found.items += len(page)
        events = list(_events_of(page, store, found))
        if dedupe:
            fresh = _fresh(store, events, seen)
            found.duplicates += len(events) - len(fresh)
            events = fresh
        for event, priority, at in events:
            found.events[event.type] += 1
            found.ranked[event.type][priority] += 1
            if at is not None:
                found.oldest[event.type] = min(at, found.oldest.get(event.type, at))
    found.unread = max(0, store.intake.waiting() - found.items)
    return found


def item_pages(store: Store) -> Iterator[list[bytes]]:
    """Yield pages of items, at most the `MOST_ITEMS` oldest in all: those in staging, then those on the audit list.

    An item that is too large to be taken comes back empty.
    """
    left = MOST_ITEMS
    for items in (store.keys.processing, store.keys.events):
        for page in list_pages(store, items, most=left):
            yield page
            left -= len(page)


def _events_of(page: Sequence[bytes], store: Store, found: Waiting) -> Iterator[_Read]:
    """Yield the events of good items; what will be a dead letter is counted in `found`."""
    types = store.settings.types
    for raw in page:
        try:
            item = decode_item(raw, store.settings.queue.max_item_bytes)
        except BadItemError:
            found.letters += 1
            continue
        at = stamped_at(raw)
        for event in item.events:
            if event.type in types:
                yield _Read(event, item.priority, at)
            else:
                found.letters += 1


def _fresh(store: Store, events: Sequence[_Read], seen: set[str]) -> list[_Read]:
    """Return those events that are neither in `seen` nor known to the ledger, each once, and remember them."""
    known = batch(store.client, (("EXISTS", store.keys.event(one.event.id)) for one in events))
    fresh = []
    for one, in_ledger in zip(events, known, strict=True):
        if not in_ledger and one.event.id not in seen:
            seen.add(one.event.id)
            fresh.append(one)
    return fresh


def oldest_in_ledger(store: Store, type_name: str, most: int) -> float | None:
    """Return since when the oldest event of a type waits in the ledger, seconds since 1970, or None without any.

    That is its item's `timestamp`, or without one the time when it was taken. The first `most` events are read.
    """
    keys = store.keys
    oldest = None
    for zset in (keys.pending(type_name), keys.retried(type_name), *keys.holders(type_name)):
        start = 0
        while most > 0 and (since := _since(store, zset, start, min(_PAGE_ITEMS, most))):
            start += len(since)
            most -= len(since)
            oldest = min((at for at in (oldest, *since) if at is not None), default=None)
    return oldest


def _since(store: Store, zset: str, start: int, number: int) -> list[float | None]:
    """Return since when each event in a part of a zset waits; None for one that was settled meanwhile."""
    with translated(store.client):
        ids = cast("list[bytes]", store.client.zrange(zset, start, start + number - 1))
    entries = batch(store.client, (("HMGET", store.keys.event(text(one)), "item", "taken_at") for one in ids))
    return [waits_since(item, taken_at) for item, taken_at in entries]


def waits_since(item: bytes | None, taken_at: bytes | None) -> float | None:
    """Return since when an event waits, by its item, else by when it was taken; None for one that is settled."""
    if item is None:
        return None
    stamped = stamped_at(item)
    return stamped if stamped is not None or taken_at is None else float(taken_at)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a run would have to do if it started now: events by configured type.

    `in_ledger` has the priorities of those in the ledger, `waiting` what was read of the items. `run` is the open one,
    which works at the former.
    """

    events: Mapping[str, int]
    in_ledger: Mapping[str, Ranks]
    waiting: Waiting
    run: Run | None = None

    @classmethod
    def of_counts(cls, events: Mapping[str, int]) -> Backlog:
        """Return the backlog of these numbers: new events that bring no priority of their own."""
        ranked = defaultdict(Counter, {name: Counter[int | None]({None: number}) for name, number in events.items()})
        return cls(events, {}, Waiting(ranked=ranked))

    def ranks(self, name: str, own_priority: int) -> Ranks:
        """Count the events of a type by priority; those without one have `own_priority`."""
        in_ledger = self.in_ledger.get(name, Ranks())
        new = Counter(in_ledger.new)
        for priority, number in self.waiting.ranked[name].items():
            new[own_priority if priority is None else priority] += number
        return Ranks(in_ledger.carried, new)


def backlog(store: Store) -> Backlog:
    """Count what a run would have to do if it started now.

    That is what is unsettled in the ledger and the new events of what waits, as far as it was read. Events of types
    that are no longer configured will be dead letters, and are counted as such.
    """
    run = store.runs.current()
    accounts, waiting = books(store).by_type, read_waiting(store, dedupe=True)
    names = [one.name for one in store.settings.event_types]
    others = [account for name, account in accounts.items() if name not in names]
    waiting.letters += sum(account.unsettled + account.retried for account in others)
    return Backlog(
        {name: accounts[name].unsettled + accounts[name].retried + waiting.events[name] for name in names},
        {name: ranks_in_ledger(store, name, run) for name in names},
        waiting,
        run,
    )


_PAGE = 200
_PRIORITIES = range(MAX_PRIORITY + 1)


def ranks_in_ledger(store: Store, type_name: str, run: Run | None) -> Ranks:
    """Count a type's events in the ledger by priority. What was retried by hand is new, as it is to the next run.

    So is what the open `run` took. While one is open, an event that moves meanwhile may be missed or counted twice.
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
    """Count the events of a zset in order of priority, those before `until` in the sequence of arrivals."""
    if batch(store.client, [("EXISTS", zset)]) == [0]:
        return Counter()
    firsts = map(order_offset, _PRIORITIES)
    counted = batch(store.client, (("ZCOUNT", zset, first, f"({first + until}") for first in firsts))
    return +Counter(dict(zip(_PRIORITIES, counted, strict=True)))


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
        scores = batch(store.client, (("HGET", store.keys.event(text(one)), "score") for one in ids))
        yield from (int(score) for score in scores if score is not None)
        start += len(ids)
