"""Chunks of staged items, decoded: their events and dead letters, as `take_chunk` writes them into the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from rlm.core.item import BadItemError, decode_item, event_id, order_offset
from rlm.core.packing import pack_item
from rlm.ledger.keys import Keys
from rlm.ledger.letters import NewLetters
from rlm.ledger.scripts import Argument

#: Bytes to be written for a chunk, and events and letters together, after which it ends as well: an item may make many
#: of both, each of which holds the item, and Redis writes a chunk in one go.
CHUNK_WRITTEN_BYTES = 1_000_000
CHUNK_WRITTEN = 125


class NewEvent(NamedTuple):
    """An event of a chunk: the index of its item, from 1, and what its priority adds to its order score."""

    id: str
    type: str
    item: int
    wallet_name: str
    offset: int


class Chunk(NamedTuple):
    """The `number` oldest items of staging, read and decoded: what `take_chunk` is called with, but for the token."""

    number: int
    keys: list[str]
    args: list[Argument]
    events: list[NewEvent]


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
        """Return as many of the oldest staged items as a chunk holds, as `take_chunk` takes them."""
        writer = NewLetters(run_id, self._now)
        letters: list[bytes] = []
        events: dict[str, NewEvent] = {}
        number = written_bytes = repeated = 0
        for number, raw in enumerate(items, start=1):
            new_events, new_letters = self._sort(raw, number, priorities, writer)
            for one in new_events:
                repeated += events.setdefault(one.id, one) is not one
            letters += new_letters
            written_bytes += len(new_events) * len(raw) + sum(map(len, new_letters))
            if written_bytes > CHUNK_WRITTEN_BYTES or len(letters) + len(events) > CHUNK_WRITTEN:
                break
        by_type = sorted(events.values(), key=attrgetter("type"))  # and in order of arrival, as before
        types = Counter(one.type for one in by_type)
        read = b"\n".join(items[number - 1 :: -1]) if number else b""
        names = self._keys
        keys = [names.lease, names.run(run_id), names.tally(run_id), names.processing]
        keys += [names.failed, names.types, names.sequence, names.event(""), *map(names.pending, types)]
        ids, _, indices, wallets, offsets = zip(*by_type, strict=True) if by_type else ((),) * 5
        packed = msgspec.msgpack.encode([[*types], [*types.values()], ids, indices, wallets, offsets])
        args: list[Argument] = [run_id, number, read, repeated, packed, len(letters), *letters]
        if self._compress:
            args += (pack_item(items[one.item - 1], one.id, one.wallet_name.encode()) for one in by_type)
        return Chunk(number, keys, args, by_type)

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
