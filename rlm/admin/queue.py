"""The queues: their length and age, how fast they move, the waiting events one by one; pushing, dropping leftovers."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import islice, pairwise
from typing import Annotated, Any, BinaryIO, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import asdict, replace

from rlm.admin.text import Duration, Text, Texts, seconds_in
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import Pushed, QueueLook, QueueStats, RunNow, TypeQueue, WaitingEvent, WaitingList
from rlm.core.item import MAX_PRIORITY, PRIORITY_STEP, BadItemError, Item, decode_item, event_id, type_of
from rlm.ledger.books import Books, books
from rlm.ledger.connect import text, translated
from rlm.ledger.events import read_due, scored
from rlm.ledger.scripts import CHUNK
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS, moment, reading, whole


class Place(StrEnum):
    """Where an event is. The values appear in the JSON."""

    QUEUED = "queued"
    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    BACKING_OFF = "backing_off"
    SPENT = "spent"
    LEFTOVER = "leftover"
    COMPLETED = "completed"
    FAILED = "failed"
    #: In the ledger, but in none of its places: a bug in RLM.
    NOWHERE = "nowhere"


#: The states of unsettled events, in the order of the list.
UNSETTLED = (Place.PENDING, Place.LEFTOVER, Place.IN_FLIGHT, Place.BACKING_OFF, Place.SPENT, Place.QUEUED)
#: The most items that are read to count their events, and the most events looked at for one page of a list.
MOST_LOOKED = 100_000
#: How many events are read at once.
PAGE = 200
#: Most items in one push; a push is also made at this many bytes.
PUSH_ITEMS = 500
PUSH_BYTES = 1_000_000
#: Items up to this many bytes are pushed, even if `queue.max_item_bytes` is smaller.
READABLE_BYTES = 1_000_000
#: Rates are over this time, in seconds, so that they follow changes quickly; they need samples over at least the other.
RECENT_SECONDS, KNOWN_FROM_SECONDS = 60.0, 5.0


def queue_stats(store: Store) -> QueueStats:
    """Return the lengths of the queues, and by type the pending events and the age of the oldest in seconds.

    On staging and audit list, the events of configured types in the `MOST_LOOKED` oldest items are counted; events that
    a drain takes meanwhile may count twice.
    """
    now, queued, oldest = store.now(), Counter[str](), dict[str, float]()
    for raw in islice(items_of(store), MOST_LOOKED):
        item = _decoded(raw)
        for name in store.settings.types.keys() & (item.types if item else ()):
            queued[name] += 1
            _note(oldest, name, now, stamped_at(raw))
    entries = books(store)
    for name, seconds in oldest_in_ledger(store, list(entries.by_type)).items():
        oldest[name] = max(seconds, oldest.get(name, 0.0))
    queued.update({name: count.unsettled for name, count in entries.by_type.items()})
    names = dict.fromkeys([*store.settings.types, *filter(queued.get, entries.by_type)])
    by_type = {name: TypeQueue(pending=queued[name], oldest_seconds=oldest.get(name)) for name in names}
    return replace(lengths(entries), by_type=by_type)


def oldest_in_ledger(store: Store, types: Iterable[str]) -> dict[str, float]:
    """Return by type for how many seconds the oldest event waits in the ledger, without types that have none.

    It counts from the item's `timestamp`, or else from when it was taken. The first `PAGE` ready events of each
    priority are read, which came before its others, and the first of those that are not ready.
    """
    now, ids = store.now(), [event for events in _later(store).values() for event, *_ in events[:PAGE]]
    for name in types:
        start, first = 0, ("WITHSCORES", "LIMIT", 0, PAGE)
        while page := list(scored(store.ask("ZRANGEBYSCORE", store.keys.ready(name), start, "+inf", *first))):
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


def lengths(entries: Books) -> QueueStats:
    """Return the lengths of the queues from the books. Without an open run, unsettled events are leftovers."""
    return QueueStats(
        events=entries.events,
        staged=entries.staged,
        processing=entries.unsettled if entries.run else 0,
        failed=entries.letters,
        leftover=0 if entries.run else entries.unsettled,
        by_type={},
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


def _decoded(raw: bytes) -> Item | None:
    """Return an item that is not taken yet; None if it will be a dead letter as a whole."""
    try:
        return decode_item(raw)
    except BadItemError:
        return None


def events_in(raw: bytes, now: float = 0.0) -> list[WaitingEvent]:
    """Return the events of an item that is not taken yet; empty if the whole item will be a dead letter."""
    if (item := _decoded(raw)) is None:
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
    return store.batch(("HMGET", store.keys.event(event), *fields) for event in event_ids)


@translated()
def _later(store: Store) -> dict[str, list[tuple[str, Place, float]]]:
    """Return by type the events that only an open run may hold, those in flight first.

    Each with its place and when its lease or its back-off ends, seconds since 1970; infinite if it spent its attempts.
    """
    by_type: dict[str, list[tuple[str, Place, float]]] = {}
    (reply,) = store.batch([("ZRANGE", store.keys.due, 0, -1, "WITHSCORES")])
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


def list_waiting(store: Store, chosen: EventFilter, number: int | None, after: int = 0) -> WaitingList:
    """Return the first `number` matching events behind the first `after` places; all of them without a number.

    Types come in the configured order. Within a type, ready events come first, then those in flight, those backing off
    and those out of attempts. Staging and the audit list come last, the oldest item first; an item is one place. Events
    that move meanwhile may be missed or appear twice.
    """
    events, following = list[WaitingEvent](), None
    for place, at_place in enumerate(walk(store, chosen, after), start=after + 1):
        events += [replace(event, item=_item_of(event)) for event in at_place if chosen.fits(event)]
        if number and (len(events) >= number or place == after + MOST_LOOKED):
            following = place
            break
    return WaitingList(events=tuple(events), next=following)


def _item_of(event: WaitingEvent) -> msgspec.Raw:
    """Return the item of an event as it came, with this event alone: pushed again, it is the same event."""
    try:
        fields = msgspec.json.decode(event.item, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):  # not what RLM wrote
        return msgspec.Raw(b"{}")
    return msgspec.Raw(msgspec.json.encode({**fields, "events": [event.type]}))


def walk(store: Store, chosen: EventFilter, after: int = 0) -> Iterator[Sequence[WaitingEvent]]:
    """Yield what may match: at each place an event of the ledger, or the events of an item; nothing if it is gone."""
    ready = Place.PENDING if store.ask("EXISTS", store.keys.run) else Place.LEFTOVER
    wanted, later, now = chosen.state or UNSETTLED, _later(store), store.now()
    for name in store.ledger.types():
        if chosen.type and name not in chosen.type:
            continue
        if ready in wanted:
            yield from _waiters(store, _ready(store, name, ready, after), now)
            after = max(0, after - store.ask("ZCARD", store.keys.ready(name)))
        due = [each for each in later.get(name, ()) if each[1] in wanted]
        yield from _waiters(store, due[after:], now)
        after = max(0, after - len(due))
    if Place.QUEUED in wanted:
        yield from (events_in(raw, now) for raw in items_of(store, after))


def _ready(store: Store, name: str, place: Place, start: int) -> Iterator[tuple[str, Place, float]]:
    key = store.keys.ready(name)
    while page := list(scored(store.ask("ZRANGE", key, start, start + PAGE - 1, "WITHSCORES"))):
        yield from ((event, place, score) for event, score in page)
        start += len(page)


def _waiters(store: Store, ids: Iterable[tuple[str, Place, float]], now: float) -> Iterator[Sequence[WaitingEvent]]:
    """Read events page by page; with each id comes its place, and its order there or the moment when it is due."""
    ids = iter(ids)
    while page := list(islice(ids, PAGE)):
        entries = _fields_of(store, (event for event, *_ in page), "wallet", "item", "taken_at", "score")
        for (event, place, at), (wallet, item, taken_at, order) in zip(page, entries, strict=True):
            score = int(at) if place in {Place.PENDING, Place.LEFTOVER} else reading(whole, order, event, 0)
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
        length = store.ask("LLEN", items)
        while page := store.intake.look(items, skip, CHUNK):
            yield from page
            skip += len(page)
        skip = max(0, skip - length)


def read_lines(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """Yield the lines of a file in constant memory; a line of more than `longest` bytes is cut to `longest` + 1.

    The document of `rlm queue list --json` is read as a whole; its lines are the items of its events.
    """
    while line := file.readline(longest + 1):
        if line.strip() == b"{":  # no JSON line
            document = line + file.read()
            try:
                events = msgspec.json.decode(document, type=WaitingList).events
            except ValueError:
                yield from document.splitlines()
            else:
                yield from (msgspec.json.format(bytes(event.item), indent=-1) for event in events)
            return
        yield line
        while len(line) > longest and not line.endswith(b"\n"):
            line = file.readline(longest + 1) or b"\n"


def longest_item(store: Store) -> int:
    """Return the size up to which a line is pushed as an item."""
    return max(store.settings.queue.max_item_bytes, READABLE_BYTES)


def push_lines(store: Store, lines: Iterable[bytes], done: Pushed) -> Iterator[str]:
    """Push each non-empty line unchanged, the first as the oldest, in constant memory; count in `done`.

    Yields a warning for each line that is too long even for a dead letter, and for each that will be one or makes one.
    After a StoreError the items after the first `done.pushed` may have been pushed.
    """
    chunk: list[bytes] = []
    longest, size = longest_item(store), 0
    for number, line in enumerate(lines, start=1):
        item = line.rstrip(b"\r\n")
        if len(item) > longest:
            done.refused += 1
            yield f"line {number}: not pushed, because it has more than {longest:,} bytes"
        elif item.strip():
            if flaw := _flaw(store, item):
                done.bad += 1
                yield f"line {number} makes a dead letter: {flaw}"
            chunk.append(item)
            size += len(item)
        if len(chunk) == PUSH_ITEMS or size >= PUSH_BYTES:
            _push(store, chunk, done)
            chunk, size = [], 0
    _push(store, chunk, done)


def _flaw(store: Store, raw: bytes) -> str:
    """Return why an item, or its events of some types, will be a dead letter when it is taken; empty if all is well."""
    most = store.settings.queue.max_item_bytes
    try:
        if len(raw) > most:
            raise BadItemError.too_large(len(raw), most)
        if unknown := [name for name in decode_item(raw).types if name not in store.settings.types]:
            raise BadItemError.unknown_types(unknown)
    except BadItemError as error:
        return f"{error.reason}, {error}"
    return ""


def _push(store: Store, chunk: list[bytes], done: Pushed) -> None:
    if chunk:
        store.intake.push(chunk)
        done.pushed += len(chunk)


def leftovers(store: Store, chosen: EventFilter) -> list[str]:
    """Return the ids of the matching leftovers, with letters retried since; while a run is open there are none."""
    left = replace(chosen, state=[Place.LEFTOVER])
    return [event.event_id for place in walk(store, left) for event in place if left.fits(event)]


def drop_leftovers(store: Store, event_ids: Sequence[str]) -> int:
    """Remove leftovers for good and forget their events: if pushed again they are new; return how many.

    They are dropped in chunks, until a run is opened, which takes the rest; after a StoreError some may be dropped.
    """
    number = 0
    for start in range(0, len(event_ids), CHUNK):
        dropped, is_open = store.ledger.drop(event_ids[start : start + CHUNK])
        number += dropped
        if is_open:
            break
    return number


class _Sample(NamedTuple):
    """What waits at the instant `at`, in seconds since 1970 by the clock of Redis.

    `items` are on the audit list and in staging, `in_ledger` are unsettled events; `taken` counts all events that the
    ledger ever took.
    """

    at: float
    items: int
    in_ledger: int
    taken: int


class Monitor:
    """Observes Redis and the queues, and how fast they move, by the samples of the last `RECENT_SECONDS`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._samples: deque[_Sample] = deque()

    def look(self) -> QueueLook:
        """Return the present state and the rates."""
        store, stats, run = self._store, queue_stats(self._store), self._store.runs.current()
        asked_at, now_us, answered_at = system_clock.monotonic(), store.now_us(), system_clock.monotonic()
        memory = store.client.info("memory")
        taken = reading(whole, store.ask("HGET", store.keys.lease, "sequence"), store.keys.lease, 0)
        now, unsettled = now_us / 1_000_000, stats.processing + stats.leftover
        self._add(_Sample(now, stats.events + stats.staged, unsettled, taken))
        pairs = [*pairwise(self._samples)]
        quiet = [(before, after) for before, after in pairs if before.taken == after.taken]  # a drain hides arrivals
        settled = (after.taken - before.taken - after.in_ledger + before.in_ledger for before, after in pairs)
        left_seconds = round(max(0.0, run.left_seconds(now_us)), 3) if run else 0.0
        return QueueLook(
            **asdict(stats),
            as_of=isoformat(now),
            ping_ms=round((answered_at - asked_at) * 1000, 1),
            used_bytes=int(memory.get("used_memory", 0)),
            max_bytes=int(memory.get("maxmemory", 0)),
            run=RunNow(run_id=run.id, state=run.state, seconds_left=left_seconds) if run else None,
            arriving_per_minute=_a_minute((max(0, after.items - before.items) for before, after in quiet), quiet),
            settled_per_minute=_a_minute((max(0, number) for number in settled), pairs),
        )

    def _add(self, sample: _Sample) -> None:
        """Add the newest sample; discard the earlier ones if the clock was set back."""
        if self._samples and sample.at <= self._samples[-1].at:
            self._samples.clear()
        self._samples.append(sample)
        while sample.at - self._samples[0].at > RECENT_SECONDS:
            self._samples.popleft()


def _a_minute(numbers: Iterable[int], intervals: Iterable[tuple[_Sample, _Sample]]) -> float | None:
    """Return numbers counted over intervals as a rate; None while these are too short."""
    seconds = sum(after.at - before.at for before, after in intervals)
    return round(sum(numbers) * 60 / seconds, 1) if seconds >= KNOWN_FROM_SECONDS else None
