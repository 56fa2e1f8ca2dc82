"""The queues: their length and age, how fast they move, the waiting events; pushing lines, dropping leftovers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import BinaryIO, NamedTuple

import msgspec
from msgspec.structs import asdict, replace

from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import Pushed, QueueLook, QueueStats, RunNow, TypeQueue, WaitingEvent, WaitingList
from rlm.core.item import Place
from rlm.ledger.books import Books
from rlm.ledger.keys import longest_item
from rlm.ledger.scripts import CHUNK
from rlm.ledger.store import Store
from rlm.ledger.waiting import EventFilter, backlog, waiting_page, walk

#: Most items in one push; a push is also made at this many bytes.
PUSH_ITEMS = 500
PUSH_BYTES = 1_000_000
#: Rates are over this time, in seconds, so that they follow changes quickly; they need samples over at least the other.
RECENT_SECONDS, KNOWN_FROM_SECONDS = 60.0, 5.0


def queue_stats(store: Store) -> QueueStats:
    """Return the lengths of the queues, and by type the pending events and the age of the oldest in seconds."""
    waiting = backlog(store)
    by_type = {}
    for name, number in waiting.events.items():
        if number or name in store.settings.types:
            by_type[name] = TypeQueue(pending=number, oldest_seconds=waiting.oldest.get(name))
    return replace(lengths(waiting.books), by_type=by_type)


def lengths(entries: Books) -> QueueStats:
    """Return the lengths of the queues from the books. Without an open run, unsettled events are leftovers."""
    return QueueStats(
        events=entries.events,
        staged=entries.staged,
        processing=entries.unsettled if entries.run_id else 0,
        failed=entries.letters,
        leftover=0 if entries.run_id else entries.unsettled,
        by_type={},
    )


def list_waiting(store: Store, chosen: EventFilter, number: int, after: int = 0) -> WaitingList:
    """Return a page of waiting events; see `waiting_page`."""
    page = waiting_page(store, chosen, number, after)
    return replace(page, events=tuple(replace(event, item=_item_of(event)) for event in page.events))


def _item_of(event: WaitingEvent) -> msgspec.Raw:
    """Return the item of an event as it came, with this event alone: pushed again, it is the same event."""
    try:
        fields = msgspec.json.decode(event.item, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):  # not what RLM wrote
        return msgspec.Raw(b"{}")
    return msgspec.Raw(msgspec.json.encode({**fields, "events": [event.type]}))


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


def push_lines(store: Store, lines: Iterable[bytes], done: Pushed) -> Iterator[str]:
    """Push each non-empty line unchanged, the first as the oldest, in constant memory; count in `done`.

    Yields a warning for each line that is too long even for a dead letter. After a StoreError the items after the first
    `done.pushed` may have been pushed.
    """
    chunk: list[bytes] = []
    longest, size = longest_item(store.settings.queue.max_item_bytes), 0
    for number, line in enumerate(lines, start=1):
        item = line.rstrip(b"\r\n")
        if len(item) > longest:
            done.refused += 1
            yield f"line {number}: not pushed, because it has more than {longest:,} bytes"
        elif item.strip():
            chunk.append(item)
            size += len(item)
        if len(chunk) == PUSH_ITEMS or size >= PUSH_BYTES:
            _push(store, chunk, done)
            chunk, size = [], 0
    _push(store, chunk, done)


def _push(store: Store, chunk: list[bytes], done: Pushed) -> None:
    if chunk:
        store.intake.push(chunk)
        done.pushed += len(chunk)


def leftovers(store: Store, chosen: EventFilter) -> list[str]:
    """Return the ids of the matching leftovers; while a run is open there are none."""
    left = replace(chosen, state=[Place.LEFTOVER])
    return [event.event_id for place in walk(store, left) for event in place if left.fits(event)]


class Dropped(NamedTuple):
    """How many leftovers were dropped, and whether a run was opened meanwhile, which takes the rest."""

    number: int
    is_open: bool


def drop_leftovers(store: Store, event_ids: Sequence[str]) -> Dropped:
    """Remove leftovers for good and forget their events: if pushed again they are new.

    They are dropped in chunks, until a run is opened; after a StoreError some may be dropped.
    """
    number = 0
    for start in range(0, len(event_ids), CHUNK):
        dropped, is_open = store.recovery.drop(event_ids[start : start + CHUNK])
        number += dropped
        if is_open:
            return Dropped(number, is_open=True)
    return Dropped(number, is_open=number < len(event_ids) and store.runs.current() is not None)


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
        now, unsettled = now_us / 1_000_000, stats.processing + stats.leftover
        self._add(_Sample(now, stats.events + stats.staged, unsettled, store.intake.ever_taken()))
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
