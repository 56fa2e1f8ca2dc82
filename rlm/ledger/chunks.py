"""Chunks of staged items, decoded: their events and dead letters, as the scripts write them into the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from rlm.core.item import BadItemError, decode_item, event_id, order_offset
from rlm.core.packing import pack_item
from rlm.ledger.folded import fold
from rlm.ledger.keys import Keys
from rlm.ledger.letters import NewLetters
from rlm.ledger.scripts import Argument, Call

#: Bytes to be written for a chunk, and events and letters together, after which it ends as well: an item may make many
#: of both, each of which holds the item, and Redis writes a chunk in one go.
CHUNK_WRITTEN_BYTES = 1_000_000
CHUNK_WRITTEN = 125


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a chunk: the index of its item, from 1, and what its priority adds to its order score."""

    id: str
    type: str
    item: int
    wallet_name: str
    offset: int


class Chunk(NamedTuple):
    """The `items` that are the oldest of staging, in order, decoded: their `letters`, and their events type by type.

    `types` has the number of events of each. `repeated` events are another one's of the chunk, and not among `events`.
    """

    run_id: str
    items: Sequence[bytes]
    letters: list[bytes]
    types: Mapping[str, int]
    events: list[NewEvent]
    repeated: int

    @property
    def number(self) -> int:
        """How many items it has."""
        return len(self.items)


class ChunkWriter:
    """Makes chunks of staged items, of at most `max_item_bytes` each; `now` is the time of their letters.

    With `compress` events are kept with their items compressed.
    """

    def __init__(self, keys: Keys, max_item_bytes: int, now: Callable[[], float], *, compress: bool = False) -> None:
        self._keys = keys
        self._max_item_bytes = max_item_bytes
        self._now = now
        self._compress = compress

    def write(self, run_id: str, items: Sequence[bytes], priorities: Mapping[str, int]) -> Chunk:
        """Decode as many of the oldest staged items as a chunk holds."""
        writer = NewLetters(run_id, self._now)
        letters: list[bytes] = []
        events: dict[str, NewEvent] = {}
        number = written_bytes = repeated = 0
        for number, raw in enumerate(items, start=1):
            new_events, new_letters = self._sort(raw, number, priorities, writer)
            for one in new_events:
                repeated += events.setdefault(one.id, one) is not one
            written_bytes += len(new_events) * len(raw)
            if new_letters:
                letters += new_letters
                written_bytes += sum(map(len, new_letters))
            if written_bytes > CHUNK_WRITTEN_BYTES or len(letters) + len(events) > CHUNK_WRITTEN:
                break
        by_type = sorted(events.values(), key=attrgetter("type"))  # and in order of arrival, as before
        return Chunk(run_id, items[:number], letters, Counter(one.type for one in by_type), by_type, repeated)

    def hashes(self, chunk: Chunk) -> Call:
        """Return what `take_chunk` is called with, but for its first arguments: the token, and what it reads then."""
        names = self._keys
        keys = [names.lease, names.run(chunk.run_id), names.tally(chunk.run_id), names.processing]
        keys += [names.failed, names.types, names.sequence, names.event(""), *map(names.pending, chunk.types)]
        events: list[list[Any]] = [[*chunk.types], [*chunk.types.values()]]
        events += ([getattr(one, name) for one in chunk.events] for name in ("id", "item", "wallet_name", "offset"))
        args: list[Argument] = [chunk.run_id, chunk.number, b"\n".join(reversed(chunk.items)), chunk.repeated]
        args += [msgspec.msgpack.encode(events), len(chunk.letters), *chunk.letters]
        if self._compress:
            args += (self._kept(chunk, one) for one in chunk.events)
        return keys, args

    def strings(self, chunk: Chunk, taken_at: bytes) -> list[Argument]:
        """Return the keys of its events, and each event folded behind its key."""
        folded: list[Argument] = []
        family = self._keys.event("")
        for one in chunk.events:
            folded += (family + one.id, fold(taken_at, one.wallet_name.encode(), self._kept(chunk, one)))
        return folded

    def places(self, chunk: Chunk, staged: int) -> Call:
        """Return what `take_folded` is called with, but for its first arguments; so many items were `staged`."""
        names = self._keys
        keys = [names.lease, names.run(chunk.run_id), names.tally(chunk.run_id), names.processing]
        keys += [names.types, names.sequence, *map(names.pending, chunk.types)]
        ids, offsets = [one.id for one in chunk.events], [one.offset for one in chunk.events]
        events = [[*chunk.types], [*chunk.types.values()], ids, offsets]
        args: list[Argument] = [chunk.run_id, chunk.number, staged, chunk.items[0], chunk.items[-1], chunk.repeated]
        return keys, [*args, msgspec.msgpack.encode(events)]

    def _kept(self, chunk: Chunk, event: NewEvent) -> bytes:
        item = chunk.items[event.item - 1]
        return pack_item(item, event.id, event.wallet_name.encode()) if self._compress else item

    def _sort(
        self, raw: bytes, index: int, priorities: Mapping[str, int], writer: NewLetters
    ) -> tuple[list[NewEvent], list[bytes]]:
        """Return the events of an item, and the letters of what is wrong with it, as the `writer` writes them."""
        try:
            item = decode_item(raw, self._max_item_bytes)
        except BadItemError as error:
            return [], [writer.write(raw, error)]
        id_, wallet, own = item.id, item.wallet_name, item.priority
        events = [
            NewEvent(event_id(id_, name), name, index, wallet, order_offset(priorities[name] if own is None else own))
            for name in item.types
            if name in priorities
        ]
        return events, [] if len(events) == len(item.types) else list(writer.unknown(raw, item, priorities))
