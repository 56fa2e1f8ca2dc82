"""The queues: their length and age, the waiting events; checking and pushing lines, dropping leftovers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import msgspec
from msgspec.structs import replace

from rlm.core.clock import isoformat
from rlm.core.documents import Pushed, QueueStats, TypeQueue, WaitingEvent, WaitingList
from rlm.core.errors import StoreGarbledError
from rlm.core.item import BadItemError, Place, decode_item
from rlm.core.text import did_you_mean
from rlm.ledger.books import Books, books
from rlm.ledger.keys import longest_item
from rlm.ledger.scripts import CHUNK
from rlm.ledger.store import Store
from rlm.ledger.waiting import EventFilter, Waiter, backlog, waiting_page, walk
from rlm.settings import Settings

#: Most items in one push; a push is also made at this many bytes.
PUSH_ITEMS = 500
PUSH_BYTES = 1_000_000
#: The remedy if the audit list is not a list.
_OTHER_KIND = "delete it; or, if another program uses it, name another list in queue.events. Then push again"


def queue_stats(store: Store) -> QueueStats:
    """Return the lengths of the queues, and by type the pending events and the age of the oldest in seconds."""
    waiting = backlog(store)
    by_type = {}
    for name, number in waiting.events.items():
        if number or name in store.settings.types:
            since = waiting.oldest.get(name)
            age = None if since is None else round(max(0.0, waiting.books.now - since), 3)  # a clock may be ahead
            by_type[name] = TypeQueue(pending=number, oldest_seconds=age)
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
    events, behind = waiting_page(store, chosen, number, after)
    now = store.now()
    return WaitingList(
        events=tuple(
            WaitingEvent(
                event_id=event.event_id,
                type=event.type,
                item_id=event.item_id,
                wallet_name=event.wallet_name,
                state=event.state,
                priority=event.priority,
                since=None if event.since is None else isoformat(event.since),
                waiting_seconds=None if event.since is None else round(max(0.0, now - event.since), 3),
                due_in_seconds=None if event.due is None else round(max(0.0, event.due - now), 3),
                item=_item_of(event),
            )
            for event in events
        ),
        next=behind,
    )


def _item_of(event: Waiter) -> msgspec.Raw:
    """Return the item of an event as it came, with this event alone: pushed again, it is the same event."""
    try:
        fields = msgspec.json.decode(event.item, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):  # not what RLM wrote
        return msgspec.Raw(b"{}")
    return msgspec.Raw(msgspec.json.encode({**fields, "events": [event.type]}))


class _Listed(msgspec.Struct):
    """The part of an event of `rlm queue list --json` that is pushed."""

    item: msgspec.Raw


class _List(msgspec.Struct):
    """The document of `rlm queue list --json`."""

    events: list[_Listed]


def read_lines(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """Yield the lines of a file in constant memory; a line of more than `longest` bytes is cut to `longest` + 1.

    The document of `rlm queue list --json` is read as a whole; its lines are the items of its events.
    """
    while line := file.readline(longest + 1):
        if line.strip() == b"{":  # no JSON line
            document = line + file.read()
            try:
                events = msgspec.json.decode(document, type=_List).events
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

    Yields a warning for each line that will become a dead letter or is too long even for that. After a StoreError the
    items after the first `done.pushed` may have been pushed.
    """
    chunk: list[bytes] = []
    longest, size = longest_item(store.settings.queue.max_item_bytes), 0
    for number, line in enumerate(lines, start=1):
        item = line.rstrip(b"\r\n")
        if len(item) > longest:
            done.refused += 1
            yield f"line {number}: not pushed, because it has more than {longest:,} bytes"
            continue
        if not item.strip():
            continue
        if flaw := flaw_of(item, store.settings):
            done.bad += 1
            done.faults[flaw.reason] = done.faults.get(flaw.reason, 0) + 1
            yield f"line {number}: {flaw.words}"
        chunk.append(item)
        size += len(item)
        if len(chunk) == PUSH_ITEMS or size >= PUSH_BYTES:
            _push(store, chunk, done)
            chunk, size = [], 0
    _push(store, chunk, done)


def _push(store: Store, chunk: list[bytes], done: Pushed) -> None:
    if not chunk:
        return
    try:
        done.waiting = store.intake.push(chunk)
    except StoreGarbledError as error:
        raise StoreGarbledError(f"the audit list {store.keys.events} (queue.events) is no list", _OTHER_KIND) from error
    done.pushed += len(chunk)


class ItemFlaw(NamedTuple):
    """Why an item, or a part of its events, will become a dead letter."""

    reason: str
    words: str


def flaw_of(item: bytes, settings: Settings) -> ItemFlaw | None:
    """Return why an item, or a part of its events, will become a dead letter; None for a good item."""
    try:
        types = decode_item(item, settings.queue.max_item_bytes).types
    except BadItemError as error:
        return ItemFlaw(error.reason, f"{error.reason}: {error}")
    unknown = [name for name in types if name not in settings.types]
    if not unknown:
        return None
    fault = BadItemError.unknown_types(unknown)
    near = did_you_mean(unknown[0], settings.types) if len(unknown) == 1 else ""
    return ItemFlaw(fault.reason, f"{fault.reason}: {fault}{near}")


class Dropped(NamedTuple):
    """How many leftovers were dropped, and whether a run was opened meanwhile, which takes the rest."""

    number: int
    is_open: bool


def count_leftovers(store: Store, chosen: EventFilter) -> int:
    """Count the matching leftovers; while a run is open there are none."""
    if chosen.wallet or chosen.item or chosen.older_seconds is not None:
        return len(_leftovers(store, chosen))
    entries = books(store)
    if entries.run_id is not None:
        return 0
    return sum(
        account.counts.pending for name, account in entries.by_type.items() if not chosen.types or name in chosen.types
    )


def drop_leftovers(store: Store, chosen: EventFilter, most: int) -> Dropped:
    """Remove the first `most` matching leftovers for good and forget their events: if pushed again they are new.

    They are dropped in chunks, until a run is opened; after a StoreError some may be dropped.
    """
    number, ids = 0, _leftovers(store, chosen)[:most]
    for start in range(0, len(ids), CHUNK):
        dropped, is_open = store.recovery.drop(ids[start : start + CHUNK])
        number += dropped
        if is_open:
            return Dropped(number, is_open=True)
    return Dropped(number, is_open=number < most and store.runs.current() is not None)


def _leftovers(store: Store, chosen: EventFilter) -> list[str]:
    leftovers, now = replace(chosen, states=frozenset({Place.LEFTOVER})), store.now()
    return [event.event_id for place in walk(store, leftovers) for event in place if leftovers.fits(event, now)]
