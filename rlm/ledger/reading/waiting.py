"""What waits, one by one and counted: events in the ledger, items in staging and on the audit list; without changes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from rlm.core.item import MAX_PRIORITY, PRIORITY_STEP, event_id
from rlm.core.run import Run
from rlm.core.trail import Place
from rlm.ledger.connect import text
from rlm.ledger.events import scored
from rlm.ledger.reading import Waiter, events_in, fields_of, later_events, waits_since
from rlm.ledger.reading.books import Books, books
from rlm.ledger.scripts import CHUNK, ask, batch
from rlm.ledger.store import Store
from rlm.ledger.values import reading, whole

#: The states of waiting events, in the order of the list.
WAITING = (Place.PENDING, Place.LEFTOVER, Place.BACKING_OFF, Place.SPENT, Place.QUEUED)
#: The most items that are read to count their events, and the most events looked at for one page of a list.
MOST_ITEMS = MOST_LOOKED = 100_000
#: How many events are read at once.
PAGE = 200


class EventFilter(msgspec.Struct, frozen=True):
    """A filter for events: all given values must match, and one of the types and states."""

    types: Collection[str] = ()
    wallet: str = ""
    item: str = ""
    older_seconds: float | None = None
    states: Collection[str] = ()

    def fits(self, event: Waiter, now: float) -> bool:
        """Return whether an event matches."""
        return (
            (not self.types or event.type in self.types)
            and (not self.wallet or event.wallet_name == self.wallet)
            and (not self.item or event.item_id == self.item)
            and (self.older_seconds is None or (event.since is not None and now - event.since >= self.older_seconds))
            and (not self.states or event.state in self.states)
        )


class WaitingPage(NamedTuple):
    """Some events, and the place at which the list goes on, None at its end."""

    events: list[Waiter]
    after: int | None


def waiting_page(store: Store, chosen: EventFilter, number: int, after: int = 0) -> WaitingPage:
    """Return the first `number` matching events behind the first `after` places, and where the list goes on.

    Types come in the configured order. Within a type, ready events come first, then those backing off and those out of
    attempts. Staging and the audit list come last, the oldest item first; an item is one place. Events that move
    meanwhile may be missed or appear twice.
    """
    events, now = list[Waiter](), store.now()
    for place, at_place in enumerate(islice(walk(store, chosen, after), MOST_LOOKED), start=after + 1):
        events += [event for event in at_place if chosen.fits(event, now)]
        if len(events) >= number or place == after + MOST_LOOKED:
            return WaitingPage(events, place)
    return WaitingPage(events, None)


def walk(store: Store, chosen: EventFilter, after: int = 0) -> Iterator[Sequence[Waiter]]:
    """Yield what may match: at each place an event of the ledger, or the events of an item; nothing if it is gone."""
    ready = Place.PENDING if ask(store.client, "EXISTS", store.keys.run) else Place.LEFTOVER
    later = later_events(store)
    for name in store.known_types:
        if chosen.types and name not in chosen.types:
            continue
        key = store.keys.ready(name)
        if not chosen.states or ready in chosen.states:
            if chosen.item:  # its id follows from the item and the type
                event = event_id(chosen.item, name)
                score = ask(store.client, "ZSCORE", key, event)
                yield from _waiters(store, [] if score is None else [(event, score)], ready)
            else:
                size = ask(store.client, "ZCARD", key)
                yield from _waiters(store, _ready(store, key, after), ready)
                after = max(0, after - size)
        for place in (Place.BACKING_OFF, Place.SPENT):
            if not chosen.states or place in chosen.states:
                due = sorted((each.due, each.event_id) for each in later.get(name, ()) if each.place is place)
                yield from _waiters(store, ((event, at) for at, event in due[after:]), place)
                after = max(0, after - len(due))
    if not chosen.states or Place.QUEUED in chosen.states:
        for items in (store.keys.processing, store.keys.events):
            length = ask(store.client, "LLEN", items)
            for page in pages(store, items, after):
                yield from (events_in(store, raw) for raw in page)
            after = max(0, after - length)


def _ready(store: Store, key: str, start: int) -> Iterator[tuple[str, float]]:
    while page := list(scored(ask(store.client, "ZRANGE", key, start, start + PAGE - 1, "WITHSCORES"))):
        yield from page
        start += len(page)


def _waiters(store: Store, ids: Iterable[tuple[str, float]], place: Place) -> Iterator[Sequence[Waiter]]:
    """Read events page by page; with each id comes its order if it is ready, else the moment when it is due."""
    ids = iter(ids)
    while page := list(islice(ids, PAGE)):
        entries = fields_of(store, (event for event, _ in page), "wallet", "item", "taken_at", "score")
        for (event, at), (wallet, item, taken_at, order) in zip(page, entries, strict=True):
            is_ready = place in {Place.PENDING, Place.LEFTOVER}
            score = int(at) if is_ready else reading(whole, order, event, 0)
            priority = max(0, MAX_PRIORITY - score // PRIORITY_STEP)
            due = at if place is Place.BACKING_OFF else None
            waiter = Waiter(event, text(wallet or b""), place, priority, waits_since(item, taken_at), due, item or b"")
            yield [waiter] if item is not None else []


def pages(store: Store, items: str, skip: int = 0, most: int | None = None) -> Iterator[list[bytes]]:
    """Yield pages of a list of items behind the `skip` oldest, oldest first; one too large to be taken comes empty.

    If staged items are taken meanwhile, the next page begins behind the last one all the same.
    """
    left = MOST_ITEMS if most is None else most
    while left > 0:
        length, page = store.intake.look(items, skip, min(left, CHUNK))
        if not page:
            return
        yield page
        left -= len(page)
        until = (skip if skip >= 0 else max(0, length + skip)) + len(page)
        if until >= length:
            return
        # Staging shrinks at its old end only; the audit list grows at its new end only.
        skip = until - length if items == store.keys.processing else until


class Backlog(msgspec.Struct, frozen=True):
    """What waits: events by type, and since when the oldest waits, seconds since 1970; `books` are of the same instant.

    `unread` items were not read, because too many wait. `run` is the open run, which works on those in the ledger.
    """

    events: Mapping[str, int]
    oldest: Mapping[str, float]
    books: Books
    unread: int
    run: Run | None


class InItems(NamedTuple):
    """The events in staging and on the audit list, by type; since when the oldest waits; how many items were read."""

    events: Counter[str]
    oldest: dict[str, float]
    read: int


def in_items(store: Store) -> InItems:
    """Count the events of the `MOST_ITEMS` oldest items, of configured types."""
    events, oldest, read = Counter[str](), dict[str, float](), 0
    for items in (store.keys.processing, store.keys.events):
        for page in pages(store, items, most=MOST_ITEMS - read):
            read += len(page)
            for event in chain.from_iterable(events_in(store, raw) for raw in page):
                if event.type in store.settings.types:
                    events[event.type] += 1
                    if event.since is not None:
                        oldest[event.type] = min(event.since, oldest.get(event.type, math.inf))
    return InItems(events, oldest, read)


def backlog(store: Store) -> Backlog:
    """Count what waits, and since when; events that a drain takes meanwhile may count twice."""
    items, entries = in_items(store), books(store)
    names = [kind.name for kind in store.settings.event_types]
    unread = max(0, entries.events + entries.staged - items.read)
    oldest = oldest_in_ledger(store, list(entries.by_type))
    for name, since in items.oldest.items():
        oldest[name] = min(since, oldest.get(name, since))
    in_ledger = {name: account.unsettled for name, account in entries.by_type.items()}
    events = {name: in_ledger.get(name, 0) + items.events[name] for name in {**dict.fromkeys(names), **in_ledger}}
    return Backlog(events, oldest, entries, unread, store.runs.current())


def oldest_in_ledger(store: Store, types: Iterable[str]) -> dict[str, float]:
    """Return by type since when the oldest event waits in the ledger, seconds since 1970, without types that have none.

    This is the item's `timestamp` or else the time when it was taken. The first `PAGE` ready events of each priority
    are read, which came before its others, and the first of those that are not ready.
    """
    ids = [each.event_id for events in later_events(store).values() for each in events[:PAGE]]
    starts = dict.fromkeys(types, 0)
    while starts:
        commands = (
            ("ZRANGEBYSCORE", store.keys.ready(name), start, "+inf", "WITHSCORES", "LIMIT", 0, PAGE)
            for name, start in starts.items()
        )
        replies = dict(zip(starts, map(scored, batch(store.client, commands)), strict=True))
        starts = {}
        for name, reply in replies.items():
            page = list(reply)
            ids += [event for event, _ in page]
            if len(page) == PAGE:
                starts[name] = (int(page[-1][1]) // PRIORITY_STEP + 1) * PRIORITY_STEP
    oldest: dict[str, float] = {}
    for event, entry in zip(ids, fields_of(store, ids, "item", "taken_at"), strict=True):
        if (since := waits_since(*entry)) is not None:
            name = event.rpartition(":")[2]
            oldest[name] = min(since, oldest.get(name, since))
    return oldest
