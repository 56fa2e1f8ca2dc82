"""Chunks of staged items, decoded: their events and dead letters, as `take_chunk` writes them into the ledger."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from rlm.core.item import PRIORITY_STEP, BadItemError, decode_item, event_id
from rlm.ledger.letters import NewLetters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rlm.ledger.keys import Keys
    from rlm.ledger.scripts import Argument

#: Bytes to be written for a chunk, and events and letters together, after which it ends as well: an item may make many
#: of both, each of which holds the item, and Redis writes a chunk in one go.
CHUNK_WRITTEN_BYTES = 1_000_000
CHUNK_WRITTEN = 250


class NewEvent(NamedTuple):
    """An event as `take_chunk` reads it; `item` is the index of its item in the chunk, from 1."""

    item: int
    event_id: str
    type: str
    wallet_name: str
    priority: int


class Chunk(NamedTuple):
    """The `number` oldest items of staging, read and decoded: what `take_chunk` is called with, but for the token."""

    number: int
    keys: list[str]
    args: list[Argument]
    events: list[NewEvent]


class ChunkWriter:
    """Makes chunks of staged items, of at most `max_item_bytes` each; `now` is the time of their letters."""

    def __init__(self, keys: Keys, max_item_bytes: int, now: Callable[[], float]) -> None:
        self._keys = keys
        self._max_item_bytes = max_item_bytes
        self._now = now

    def write(self, run_id: str, items: Sequence[bytes], priorities: Mapping[str, int]) -> Chunk:
        """Return as many of the oldest staged items as a chunk holds, as `take_chunk` takes them."""
        writer = NewLetters(run_id, self._now)
        letters: list[bytes] = []
        events: list[NewEvent] = []
        number = written_bytes = 0
        for number, raw in enumerate(items, start=1):
            new_events, new_letters = self._sort(raw, number, priorities, writer)
            events += new_events
            letters += new_letters
            written_bytes += len(new_events) * len(raw) + sum(map(len, new_letters))
            if written_bytes > CHUNK_WRITTEN_BYTES or len(letters) + len(events) > CHUNK_WRITTEN:
                break
        types = sorted({one.type for one in events})
        digest = hashlib.sha1(b"\n".join(items[number - 1 :: -1] if number else ()), usedforsecurity=False).hexdigest()
        names = self._keys
        keys = [names.lease, names.run(run_id), names.tally(run_id), names.processing]
        keys += [names.failed, names.types, names.sequence, names.event(""), *map(names.pending, types)]
        args: list[Argument] = [run_id, number, digest, len(letters), PRIORITY_STEP, *types, *letters]
        for one in events:
            args += one
        return Chunk(number, keys, args, events)

    def _sort(
        self, raw: bytes, index: int, priorities: Mapping[str, int], writer: NewLetters
    ) -> tuple[list[NewEvent], list[bytes]]:
        """Return the events of an item, and the letters of what is wrong with it, as the `writer` writes them."""
        try:
            item = decode_item(raw, self._max_item_bytes)
        except BadItemError as error:
            return [], [writer.write(raw, error)]
        events = [
            NewEvent(
                index,
                event_id(item.id, name),
                name,
                item.wallet_name,
                priorities[name] if item.priority is None else item.priority,
            )
            for name in item.types
            if name in priorities
        ]
        return events, [] if len(events) == len(item.types) else list(writer.unknown(raw, item, priorities))
