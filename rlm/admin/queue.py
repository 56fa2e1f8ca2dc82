"""The queues: their length and age; checking and pushing lines, clearing the audit list, dropping leftovers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import msgspec
from msgspec.structs import replace

from rlm.core.errors import StoreError, StoreForbiddenError, StoreGarbledError, StoreRefusingError
from rlm.core.item import BadItemError, decode_item
from rlm.core.text import counted, cut, did_you_mean, safe_line
from rlm.core.trail import Place
from rlm.ledger import Store
from rlm.ledger.keys import longest_item
from rlm.ledger.reading.backlog import Waiting, look, oldest_in_ledger, ranks_in_ledger
from rlm.ledger.reading.books import Books, books
from rlm.ledger.reading.waiting import EventFilter, walk
from rlm.ledger.scripts import CHUNK
from rlm.settings import Settings

#: Most items in one push; a push is also made at this many bytes.
PUSH_ITEMS = 500
PUSH_BYTES = 1_000_000
#: The remedy if the audit list is not a list.
_OTHER_KIND = "delete it; or, if another program uses it, name another list in queue.events. Then push again"
#: Most lines and types to name for one fault, the first ones.
MOST_NAMED = 5
#: Most columns of an unknown type's name.
LONGEST_NAME = 60


def queue_stats(store: Store) -> dict[str, Any]:
    """Return the lengths of the queues, and by type the pending events and the age of the oldest in seconds.

    Events wait in the ledger and in items, of which the oldest are read; see `look`.
    """
    found, waiting = look(store)
    return stats_of(found, waiting.events, oldest_seconds(store, found, waiting))


def stats_of(found: Books, in_items: Mapping[str, int], oldest: Mapping[str, float | None]) -> dict[str, Any]:
    """Return the statistics of the types in `oldest`, which has their ages; `in_items` has their events in items."""
    by_type = {
        name: {"pending": account.unsettled + in_items.get(name, 0), "oldest_seconds": oldest[name]}
        for name, account in found.by_type.items()
        if name in oldest
    }
    return {**lengths(found), "by_type": by_type}


def oldest_seconds(store: Store, found: Books, waiting: Waiting) -> dict[str, float | None]:
    """Return the age of the oldest event by type, None if none waits: configured types and others in the ledger."""
    configured = [one.name for one in store.settings.event_types]
    others = [name for name, one in found.by_type.items() if name not in configured and one.unsettled]
    oldest, in_ledger = {}, oldest_in_ledger(store, [*configured, *others])
    for name in (*configured, *others):
        since = (in_ledger.get(name), waiting.oldest.get(name))
        # Never negative, even if a clock is ahead.
        ages = [round(max(0.0, found.now - at), 3) for at in since if at is not None]
        oldest[name] = max(ages, default=None)
    return oldest


def carried_over(store: Store) -> dict[str, int]:
    """Return by type how many waiting events in the ledger are leftovers of an earlier run."""
    found, run = books(store).by_type, store.runs.current()
    if run is None:
        return {name: account.unsettled for name, account in found.items()}
    ranks = ranks_in_ledger(store, run)
    return {name: min(one.carried_over, sum(ranks[name].carried.values())) for name, one in found.items()}


def lengths(found: Books) -> dict[str, int]:
    """Return the lengths of the queues from the books. Without an open run, unsettled events are leftovers."""
    return {
        "events": found.events,
        "staged": found.staged,
        "processing": found.unsettled if found.run_id else 0,
        "failed": found.letters,
        "leftover": 0 if found.run_id else found.unsettled,
    }


class ItemFlaw(NamedTuple):
    """Why an item, or its events of the unknown `types`, will become a dead letter, in words: `told`."""

    reason: str
    told: str
    types: Sequence[str] = ()


@dataclass(slots=True)
class Faulty:
    """Items with the same fault: their number, the first lines, and the unknown types if those are the fault."""

    items: int = 0
    lines: list[int] = field(default_factory=list)
    types: dict[str, None] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.types:
            more = ", ..." if len(self.types) == MOST_NAMED else ""
            return f"({', '.join(cut(safe_line(one), LONGEST_NAME) for one in self.types)}{more})"
        more = f" and {self.items - len(self.lines):,} more" if self.items > len(self.lines) else ""
        return f"({'line' if self.items == 1 else 'lines'} {', '.join(map(str, self.lines))}{more})"


@dataclass(slots=True)
class Pushed:
    """How many items were pushed so far, and how many of the read ones will become dead letters.

    `faults` groups those by reason; `read` counts all lines with an item, and `refused` those too long to push.
    """

    items: int = 0
    bad: int = 0
    read: int = 0
    refused: int = 0
    faults: dict[str, Faulty] = field(default_factory=dict)

    def note(self, line: int, flaw: ItemFlaw) -> None:
        """Count an item that will become a dead letter."""
        self.bad += 1
        faulty = self.faults.setdefault(flaw.reason, Faulty())
        faulty.items += 1
        if len(faulty.lines) < MOST_NAMED:
            faulty.lines.append(line)
        for name in flaw.types:
            if len(faulty.types) < MOST_NAMED:
                faulty.types[name] = None

    def summary(self) -> str:
        """Return how many items will become dead letters, by reason, the most frequent first."""
        by_number = sorted(self.faults.items(), key=lambda one: -one[1].items)
        parts = ", ".join(f"{faulty.items:,} {reason} {faulty}" for reason, faulty in by_number)
        letters = "a dead letter" if self.bad == 1 else "dead letters"
        return f"{self.bad:,} of {counted(self.read, 'item')} will become {letters}: {parts}"


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
            yield from _items_listed(line + file.read())
            return
        yield line
        while len(line) > longest and not line.endswith(b"\n"):
            line = file.readline(longest + 1) or b"\n"


def _items_listed(document: bytes) -> Iterator[bytes]:
    try:
        events = msgspec.json.decode(document, type=_List).events
    except ValueError:
        yield from document.splitlines()
    else:
        yield from (msgspec.json.format(bytes(one.item), indent=-1) for one in events)


def push_lines(store: Store, lines: Iterable[bytes], pushed: Pushed) -> Iterator[str]:
    """Push each non-empty line unchanged, the first as the oldest, in constant memory; count in `pushed`.

    Yields a warning for each line that will become a dead letter or is too long even for that. After a StoreError the
    items after the first `pushed.items` may have been pushed, unless it `is_known_undone`.
    """
    chunk: list[bytes] = []
    size = 0
    for item, warning in check_lines(store.settings, lines, pushed):
        if warning:
            yield warning
        if item:
            chunk.append(item)
            size += len(item)
        if len(chunk) == PUSH_ITEMS or size >= PUSH_BYTES:
            _push(store, chunk, pushed)
            chunk, size = [], 0
    _push(store, chunk, pushed)


def is_known_undone(error: StoreError) -> bool:
    """Return whether the `error` of a push shows that Redis took none of its items."""
    return isinstance(error, StoreGarbledError | StoreRefusingError | StoreForbiddenError)


def _push(store: Store, chunk: list[bytes], pushed: Pushed) -> None:
    if not chunk:
        return
    try:
        store.intake.push(chunk)
    except StoreGarbledError as error:
        raise StoreGarbledError(f"the audit list {store.keys.events} (queue.events) is no list", _OTHER_KIND) from error
    pushed.items += len(chunk)


def check_lines(settings: Settings, lines: Iterable[bytes], pushed: Pushed) -> Iterator[tuple[bytes, str]]:
    """Yield the item of each non-empty line, with the reason if it will become a dead letter; count both.

    A line that is too long even for a dead letter must not be pushed; its item is empty.
    """
    longest = longest_item(settings.queue.max_item_bytes)
    for number, line in enumerate(lines, start=1):
        item = line.rstrip(b"\r\n")
        if not item.strip():
            continue
        pushed.read += 1
        if len(item) > longest:
            pushed.refused += 1
            yield b"", f"line {number}: not pushed, because it has more than {longest:,} bytes"
            continue
        flaw = flaw_of(item, settings)
        if flaw:
            pushed.note(number, flaw)
        yield item, f"line {number}: {flaw.told}" if flaw else ""


def flaw_of(item: bytes, settings: Settings) -> ItemFlaw | None:
    """Return why an item, or a part of its events, will become a dead letter; None for a good item."""
    try:
        types = decode_item(item, settings.queue.max_item_bytes).types
    except BadItemError as error:
        return ItemFlaw(error.reason, f"{error.reason}: {error}")
    unknown = [name for name in types if name not in settings.types]
    return unknown_types(unknown, settings) if unknown else None


def unknown_types(names: Sequence[str], settings: Settings) -> ItemFlaw:
    """Return why events of these types will become a dead letter."""
    error = BadItemError.unknown_types(names)
    near = did_you_mean(names[0], settings.types) if len(names) == 1 else ""
    return ItemFlaw(error.reason, f"{error.reason}: {error}{near}", names)


def waiting_items(store: Store) -> int:
    """Count the items on the audit list."""
    return store.intake.lengths()[1]


class Dropped(NamedTuple):
    """How many leftovers were dropped, and whether a run was opened meanwhile, which takes the rest."""

    number: int
    is_open: bool


def count_leftovers(store: Store, wanted: EventFilter) -> int:
    """Count the matching leftovers; while a run is open there are none."""
    if wanted.wallet or wanted.item or wanted.older_seconds is not None:
        return sum(1 for _ in _leftovers(store, wanted))
    found = books(store)
    if found.run_id is not None:
        return 0
    return sum(one.counts.pending for name, one in found.by_type.items() if not wanted.types or name in wanted.types)


def drop_leftovers(store: Store, wanted: EventFilter, most: int) -> Dropped:
    """Remove the first `most` matching leftovers for good and forget their events: if pushed again they are new.

    They are dropped in chunks, in constant memory, until a run is opened; after a StoreError some may be dropped.
    """
    number, found = 0, islice(_leftovers(store, wanted), most)
    while chunk := list(islice(found, CHUNK)):
        dropped, is_open = store.recovery.drop(chunk)
        number += dropped
        if is_open:
            return Dropped(number, is_open=True)
    return Dropped(number, is_open=number < most and store.runs.current() is not None)


def _leftovers(store: Store, wanted: EventFilter) -> Iterator[str]:
    now = store.now()
    of_leftovers = replace(wanted, states=frozenset({Place.LEFTOVER}))
    return (one.event_id for _, one in walk(store, of_leftovers) if one is not None and wanted.fits(one, now))
