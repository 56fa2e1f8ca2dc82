"""What waits, counted: events in the ledger, items in staging and on the audit list, and the ages of the oldest."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

import msgspec

from rlm.core.item import MAX_PRIORITY, PRIORITY_STEP, order_offset
from rlm.core.run import Run
from rlm.ledger import Store
from rlm.ledger.connect import text
from rlm.ledger.reading import Waiter, events_in, fields_in, fields_of, stamped_at, waits_since
from rlm.ledger.reading.books import books
from rlm.ledger.scripts import ask, batch
from rlm.plan.allocation import Ranks

#: The most items that are read, the oldest first; the rest is only counted.
MOST_ITEMS = 100_000
#: The most events of the ledger that are read to find the oldest, per kind of zset; this takes a tenth of a second.
MOST_AGED = 5_000
#: The fields that tell since when an event waits.
_AGED = ("wallet", "item", "taken_at")

_PRIORITIES = range(MAX_PRIORITY + 1)


class Waiting(msgspec.Struct):
    """What the items in staging and on the audit list will become, as far as they were read.

    `events` are counted by type, `ranked` by type and the item's priority (None if it has none). `oldest` is the
    earliest valid timestamp by type, in seconds since 1970. `letters` is the number of future dead letters, `unread`
    the number of items that were not read.
    """

    items: int = 0
    unread: int = 0
    letters: int = 0
    duplicates: int = 0
    events: Counter[str] = msgspec.field(default_factory=Counter)
    ranked: dict[str, Counter[int | None]] = msgspec.field(default_factory=lambda: defaultdict(Counter))
    oldest: dict[str, float] = msgspec.field(default_factory=dict)


def read_waiting(store: Store, *, dedupe: bool = False) -> Waiting:
    """Read what waits in staging and on the audit list, at most the `MOST_ITEMS` oldest, in constant memory.

    With `dedupe`, events that were read before or that the ledger knows count as duplicates, as in a run.
    """
    found, seen = Waiting(), set[str]()
    for page in item_pages(store):
        found.items += len(page)
        events = list(_good_events(store, page, found))
        if dedupe:
            fresh = _fresh(store, events, seen)
            found.duplicates += len(events) - len(fresh)
            events = fresh
        for one in events:
            name = one.type
            found.events[name] += 1
            found.ranked[name][one.priority] += 1
            if one.since is not None and one.since < found.oldest.get(name, math.inf):
                found.oldest[name] = one.since
    found.unread = max(0, store.intake.waiting() - found.items)
    return found


def item_pages(store: Store) -> Iterator[list[bytes]]:
    """Yield pages of items, at most the `MOST_ITEMS` oldest in total: first those in staging, then the audit list.

    An item that is too large to be taken is returned empty.
    """
    left = MOST_ITEMS
    for items in (store.keys.processing, store.keys.events):
        for page in store.intake.pages(items, most=left):
            yield page
            left -= len(page)


def _good_events(store: Store, page: Sequence[bytes], found: Waiting) -> Iterator[Waiter]:
    """Yield the events of configured types; count future dead letters in `found`."""
    for raw in page:
        events = events_in(store, raw)
        known = [one for one in events if one.type in store.settings.types]
        found.letters += len(events) - len(known) if events else 1
        yield from known


def _fresh(store: Store, events: Sequence[Waiter], seen: set[str]) -> list[Waiter]:
    """Return the events that are neither in `seen` nor known to the ledger, each once, and remember them."""
    known = batch(store.client, (("EXISTS", store.keys.event(one.event_id)) for one in events))
    fresh = []
    for one, in_ledger in zip(events, known, strict=True):
        if not in_ledger and one.event_id not in seen:
            seen.add(one.event_id)
            fresh.append(one)
    return fresh


def oldest_in_ledger(store: Store, types: Sequence[str]) -> dict[str, float]:
    """Return by type since when the oldest event waits in the ledger, seconds since 1970, without types that have none.

    This is the item's `timestamp` or else the time when it was taken. It reads the first pending event of each
    priority, which is older than the others, and the first events of each zset, `MOST_AGED` over all types.
    """
    oldest, most = oldest_pending(store, types), max(1, MOST_AGED // max(1, len(types)))
    for name in types:
        for zset in store.keys.zsets(name).values():
            for event_id, entry in islice(fields_in(store, zset, *_AGED), most):
                if (at := waits_since(event_id, *entry)) is not None:
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
            ("ZRANGEBYSCORE", store.keys.pending(name), score, "+inf", "WITHSCORES", "LIMIT", 0, 1)
            for name, score in lowest.items()
        )
        replies = zip(lowest, batch(store.client, asked), strict=True)
        lowest = {}
        for name, (event_id, score) in ((name, reply) for name, reply in replies if reply):
            first.append((name, text(event_id)))
            lowest[name] = (int(score) // PRIORITY_STEP + 1) * PRIORITY_STEP
    oldest: dict[str, float] = {}
    entries = fields_of(store, (event_id for _, event_id in first), *_AGED)
    for (name, event_id), entry in zip(first, entries, strict=True):
        if (at := waits_since(event_id, *entry)) is not None:
            oldest[name] = min(at, oldest.get(name, at))
    return oldest


def oldest_listed(store: Store) -> float | None:
    """Return the `timestamp` of the oldest item on the audit list, seconds since 1970; None if it has none."""
    return next((stamped_at(one) for page in store.intake.pages(store.keys.events, most=1) for one in page), None)


class Backlog(msgspec.Struct, frozen=True):
    """What a run would have to do if it started now: events by configured type.

    `in_ledger` has the priorities of the events in the ledger, `waiting` what was read of the items. `run` is the open
    run, which works on the events in the ledger.
    """

    events: Mapping[str, int]
    in_ledger: Mapping[str, Ranks]
    waiting: Waiting
    run: Run | None = None

    @classmethod
    def of_counts(cls, events: Mapping[str, int]) -> Backlog:
        """Return the backlog for these numbers of new events without priorities of their own."""
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

    This is what is unsettled in the ledger, and the new events among the waiting items, as far as they were read.
    Events of types that are no longer configured are counted as dead letters.
    """
    run = store.runs.current()
    in_ledger = {name: one.unsettled + one.retried for name, one in books(store).by_type.items()}
    waiting = read_waiting(store, dedupe=True)
    names = [one.name for one in store.settings.event_types]
    waiting.letters += sum(number for name, number in in_ledger.items() if name not in names)
    return Backlog(
        {name: in_ledger[name] + waiting.events[name] for name in names},
        {name: ranks_in_ledger(store, name, run) for name in names},
        waiting,
        run,
    )


def ranks_in_ledger(store: Store, type_name: str, run: Run | None) -> Ranks:
    """Count a type's events in the ledger by priority. Events retried by hand are new, as for the next run.

    So are those that the open `run` took. While a run is open, an event that moves may be missed or counted twice.
    """
    keys = store.keys
    until = PRIORITY_STEP if run is None or run.ever_taken is None else run.ever_taken + 1
    pending, retried = _by_score(store, keys.pending(type_name)), _by_score(store, keys.retried(type_name))
    carried = pending if until == PRIORITY_STEP else _by_score(store, keys.pending(type_name), until)
    # The zsets of the holders have a different order.
    entries = chain.from_iterable(fields_in(store, holder, "score") for holder in keys.holders(type_name))
    held = [int(score) for _, (score,) in entries if score is not None]
    held_before = _by_priority(score for score in held if score % PRIORITY_STEP < until)
    return Ranks(carried + held_before, pending - carried + (_by_priority(held) - held_before) + retried)


def _by_score(store: Store, zset: str, until: int = PRIORITY_STEP) -> Counter[int]:
    """Count the events of a zset by priority, only those before `until` in the sequence of arrivals."""
    if not ask(store.client, "EXISTS", zset):
        return Counter()
    firsts = map(order_offset, _PRIORITIES)
    counted = batch(store.client, (("ZCOUNT", zset, first, f"({first + until}") for first in firsts))
    return +Counter(dict(zip(_PRIORITIES, counted, strict=True)))


def _by_priority(scores: Iterable[int]) -> Counter[int]:
    return Counter(MAX_PRIORITY - score // PRIORITY_STEP for score in scores)
