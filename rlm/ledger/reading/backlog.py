"""What waits, counted: events in the ledger, items in staging and on the audit list, and the ages of the oldest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from sys import intern
from typing import NamedTuple

import msgspec

from rlm.core.item import MAX_PRIORITY, PRIORITY_STEP, order_offset
from rlm.core.run import Run
from rlm.ledger import Store
from rlm.ledger.connect import text
from rlm.ledger.reading import Waiter, events_in, fields_of, held_events, ready_fields, waits_since
from rlm.ledger.reading.books import Books, books
from rlm.ledger.reading.pages import pages
from rlm.ledger.scripts import ask, batch

#: The most items that are read, the oldest first; the rest is only counted.
MOST_ITEMS = 100_000
#: How often the items are read at most because a run stages the audit list meanwhile.
_ROUNDS = 3
#: The most events of the ledger that are read to find the oldest, ready and not; this takes a tenth of a second.
MOST_AGED = 5_000
#: The fields that tell since when an event waits.
_AGED = ("item", "taken_at")

_PRIORITIES = range(MAX_PRIORITY + 1)


class _Item(NamedTuple):
    """What an item will become: events of types that wait `since` then, dead letters, duplicates."""

    events: tuple[str, ...]
    since: float | None
    letters: int
    duplicates: int


class Waiting(msgspec.Struct):
    """What the items in staging and on the audit list will become, as far as they were read.

    `events` are counted by type. `oldest` is the earliest valid timestamp by type, in seconds since 1970. `letters` is
    the number of future dead letters, `unread` the number of items that were not read.
    """

    items: int = 0
    unread: int = 0
    letters: int = 0
    duplicates: int = 0
    events: Counter[str] = msgspec.field(default_factory=Counter)
    oldest: dict[str, float] = msgspec.field(default_factory=dict)

    def add(self, items: Sequence[_Item]) -> None:
        """Count some more items."""
        self.items += len(items)
        for item in items:
            self.letters += item.letters
            self.duplicates += item.duplicates
            for name in item.events:
                self.events[name] += 1
                if item.since is not None and item.since < self.oldest.get(name, math.inf):
                    self.oldest[name] = item.since


class Look(NamedTuple):
    """The books of an instant, and what the items will become that waited at that instant."""

    books: Books
    waiting: Waiting


def look(store: Store, *, dedupe: bool = False) -> Look:
    """Look at what waits, in the ledger and in items: of these at most the `MOST_ITEMS` oldest are read.

    Each event counts once, also while a drain takes items: these are read first, and those that the ledger has when the
    books are read do not count. If a run staged the audit list meanwhile, all is read again. With `dedupe`, events that
    were read before or that the ledger knows count as duplicates, as in a run.
    """
    found = books(store)
    for _ in range(_ROUNDS):
        before, seen = found, set[str]() if dedupe else None
        staged, until, behind, waiting = list[_Item](), 0, 0, Waiting()
        for page in pages(store, store.keys.processing, most=MOST_ITEMS):
            staged += _become(store, page.items, seen)
            until, behind = page.until, page.behind
        for page in pages(store, store.keys.events, most=MOST_ITEMS - until):
            waiting.add(_become(store, page.items, seen))
        found = books(store)
        if found.stager == before.stager and found.events >= waiting.items:
            break
    left = max(0, found.staged - behind)  # of those read; the oldest are taken first
    waiting.add(staged[max(0, len(staged) - left) :])
    waiting.unread = max(0, found.events + found.staged - waiting.items)
    return Look(found, waiting)


def item_pages(store: Store) -> Iterator[list[bytes]]:
    """Yield pages of items, at most the `MOST_ITEMS` oldest in total: first those in staging, then the audit list.

    An item that is too large to be taken is returned empty.
    """
    until = 0
    for items in (store.keys.processing, store.keys.events):
        for page in pages(store, items, most=MOST_ITEMS - until):
            yield page.items
            until = page.until


def _become(store: Store, page: Sequence[bytes], seen: set[str] | None) -> list[_Item]:
    """Return what each item of a page will become; with `seen`, which it adds to, no event twice."""
    each, types = [events_in(store, raw) for raw in page], store.settings.types
    good = [[one for one in events if one.type in types] for events in each]
    fresh = good if seen is None else _fresh(store, good, seen)
    return [
        _Item(
            tuple(intern(one.type) for one in new),
            new[0].since if new else None,
            int(len(known) < len(events) or not events),
            len(known) - len(new),
        )
        for events, known, new in zip(each, good, fresh, strict=True)
    ]


def _fresh(store: Store, each: Sequence[Sequence[Waiter]], seen: set[str]) -> list[list[Waiter]]:
    """Return of each item the events that are neither in `seen` nor known to the ledger, and remember them."""
    known = iter(batch(store.client, (("EXISTS", store.keys.event(one.event_id)) for one in chain(*each))))
    fresh: list[list[Waiter]] = []
    for events in each:
        fresh.append([])
        for one in events:
            if not next(known) and one.event_id not in seen:
                seen.add(one.event_id)
                fresh[-1].append(one)
    return fresh


def oldest_in_ledger(store: Store, types: Sequence[str]) -> dict[str, float]:
    """Return by type since when the oldest event waits in the ledger, seconds since 1970, without types that have none.

    This is the item's `timestamp` or else the time when it was taken. It reads the first pending event of each
    priority, which is older than the others, and the first events in each place, `MOST_AGED` over all types.
    """
    oldest, most = oldest_pending(store, types), max(1, MOST_AGED // max(1, len(types)))
    held = held_events(store)
    for name in types:
        ids = [one.event_id for one in held.get(name, ())[:most]]
        entries = chain(
            islice(ready_fields(store, name, *_AGED), most), zip(ids, fields_of(store, ids, *_AGED), strict=True)
        )
        for _, entry in entries:
            if (at := waits_since(*entry)) is not None:
                oldest[name] = min(at, oldest.get(name, at))
    return oldest


def oldest_pending(store: Store, types: Sequence[str]) -> dict[str, float]:
    """Return by type since when the oldest pending event waits, seconds since 1970, without types that have none.

    Only the first event of each priority is read: its item's `timestamp` or else its arrival. The number of round trips
    is the number of waiting priorities plus two.
    """
    first: list[tuple[str, str]] = []
    lowest = dict.fromkeys(types, 0)
    while lowest:
        asked = (
            ("ZRANGEBYSCORE", store.keys.ready(name), score, "+inf", "WITHSCORES", "LIMIT", 0, 1)
            for name, score in lowest.items()
        )
        replies = zip(lowest, batch(store.client, asked), strict=True)
        lowest = {}
        for name, (event_id, score) in ((name, reply) for name, reply in replies if reply):
            first.append((name, text(event_id)))
            lowest[name] = (int(score) // PRIORITY_STEP + 1) * PRIORITY_STEP
    oldest: dict[str, float] = {}
    entries = fields_of(store, (event_id for _, event_id in first), *_AGED)
    for (name, _), entry in zip(first, entries, strict=True):
        if (at := waits_since(*entry)) is not None:
            oldest[name] = min(at, oldest.get(name, at))
    return oldest


class Backlog(msgspec.Struct, frozen=True):
    """What a run would have to do if it started now: events by configured type.

    `waiting` is what was read of the items. `run` is the open run, which works on the events in the ledger.
    """

    events: Mapping[str, int]
    waiting: Waiting
    run: Run | None = None


def backlog(store: Store) -> Backlog:
    """Count what a run would have to do if it started now.

    This is what is unsettled in the ledger, and the new events among the waiting items, as far as they were read.
    Events of types that are no longer configured are counted as dead letters.
    """
    run = store.runs.current()
    found, waiting = look(store, dedupe=True)
    in_ledger = {name: one.unsettled for name, one in found.by_type.items()}
    names = [one.name for one in store.settings.event_types]
    waiting.letters += sum(number for name, number in in_ledger.items() if name not in names)
    return Backlog({name: in_ledger[name] + waiting.events[name] for name in names}, waiting, run)


def carried_in_ledger(store: Store, run: Run | None) -> dict[str, int]:
    """Count the events in the ledger that the open `run` did not take, by type.

    While a run is open, an event that moves may be missed or counted twice.
    """
    until = PRIORITY_STEP if run is None or run.ever_taken is None else run.ever_taken + 1
    held, carried = held_events(store), {}
    for name in store.known_types:
        ids = [one.event_id for one in held.get(name, ())]
        scores = [int(score) for (score,) in fields_of(store, ids, "score") if score is not None]
        ready = _by_score(store, name, until).total()
        carried[name] = ready + sum(score % PRIORITY_STEP < until for score in scores)
    return carried


def _by_score(store: Store, type_name: str, until: int = PRIORITY_STEP) -> Counter[int]:
    """Count the ready events of a type by priority, only those before `until` in the sequence of arrivals."""
    zset = store.keys.ready(type_name)
    if not ask(store.client, "EXISTS", zset):
        return Counter()
    firsts = map(order_offset, _PRIORITIES)
    counted = batch(store.client, (("ZCOUNT", zset, first, f"({first + until}") for first in firsts))
    return +Counter(dict(zip(_PRIORITIES, counted, strict=True)))


def _by_priority(scores: Iterable[int]) -> Counter[int]:
    return Counter(MAX_PRIORITY - score // PRIORITY_STEP for score in scores)
