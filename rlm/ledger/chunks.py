"""Chunks of staged items, decoded: their events and dead letters, as the scripts write them into the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from rlm.core.item import BadItemError, decode_item, event_id, order_offset
from rlm.ledger.keys import Keys
from rlm.ledger.letters import NewLetters
from rlm.ledger.scripts import Argument, Call

#: Bytes to be written for a chunk, and events and letters together, after which it ends as well: an item may make many
#: of both, each of which holds the item, and Redis writes a chunk in one go.
CHUNK_WRITTEN_BYTES = 1_000_000
CHUNK_WRITTEN = 125
#: The new events of a type by their ids: the index of its item, from 0, its wallet, and what its priority adds to its
#: order score. A tuple, because making it is a good part of what an event costs here.
_NewEvents = dict[str, tuple[int, str, int]]


class Chunk(NamedTuple):
    """The `items` that are the oldest of staging, in order, decoded: their `letters`, and their events type by type.

    `types` has the number of events of each type; `ids`, `of` (the index of its item, from 0), `wallets` and `offsets`
    (what its priority adds to its order score) have an entry for each event. `repeated` events are another one's of the
    chunk, and not among them.
    """

    run_id: str
    items: Sequence[bytes]
    letters: list[bytes]
    repeated: int
    types: Mapping[str, int]
    ids: Sequence[str]
    of: Sequence[int]
    wallets: Sequence[str]
    offsets: Sequence[int]

    @property
    def number(self) -> int:
        """How many items it has."""
        return len(self.items)


class ChunkWriter:
    """Makes chunks of staged items, of at most `max_item_bytes` each; `now` is the time of their letters."""

    def __init__(self, keys: Keys, max_item_bytes: int, now: Callable[[], float]) -> None:
        self._keys = keys
        self._max_item_bytes = max_item_bytes
        self._now = now

    def write(self, run_id: str, items: Sequence[bytes], priorities: Mapping[str, int]) -> Chunk:
        """Decode as many of the oldest staged items as a chunk holds."""
        writer = NewLetters(run_id, self._now)
        letters: list[bytes] = []
        by_type: dict[str, _NewEvents] = defaultdict(dict)
        number = written = written_bytes = repeated = 0
        for number, raw in enumerate(items, start=1):
            new, again, of_item = self._sort(raw, number - 1, priorities, by_type, writer)
            repeated += again
            written += new + len(of_item)
            written_bytes += (new + again) * len(raw)
            if of_item:
                letters += of_item
                written_bytes += sum(map(len, of_item))
            if written_bytes > CHUNK_WRITTEN_BYTES or written > CHUNK_WRITTEN:
                break
        types = dict(sorted(by_type.items()))
        found = [*chain.from_iterable(events.values() for events in types.values())]
        columns = zip(*found, strict=True) if found else ((),) * 3
        numbers, ids = {name: len(events) for name, events in types.items()}, [*chain.from_iterable(types.values())]
        return Chunk(run_id, items[:number], letters, repeated, numbers, ids, *columns)

    def _sort(
        self, raw: bytes, of: int, priorities: Mapping[str, int], by_type: dict[str, _NewEvents], writer: NewLetters
    ) -> tuple[int, int, list[bytes]]:
        """Add the events of an item; return how many are new and how many are not, and the letters of what is wrong."""
        try:
            item = decode_item(raw, self._max_item_bytes)
        except BadItemError as error:
            return 0, 0, [writer.write(raw, error)]
        id_, wallet, own = item.id, item.wallet_name, item.priority
        new = again = 0
        for name in item.types:
            if name in priorities:
                one = (of, wallet, order_offset(priorities[name] if own is None else own))
                if by_type[name].setdefault(event_id(id_, name), one) is one:
                    new += 1
                else:
                    again += 1
        return new, again, [] if new + again == len(item.types) else list(writer.unknown(raw, item, priorities))

    def call(self, chunk: Chunk) -> Call:
        """Return what `take_chunk` is called with, but for its first arguments: the token, and what it reads then."""
        names = self._keys
        keys = [names.lease, names.run(chunk.run_id), names.tally(chunk.run_id), names.processing]
        keys += [names.failed, names.types, names.sequence, names.event(""), *map(names.pending, chunk.types)]
        events = [[*chunk.types], [*chunk.types.values()], chunk.ids, chunk.of, chunk.wallets, chunk.offsets]
        args: list[Argument] = [chunk.run_id, chunk.number, b"\n".join(reversed(chunk.items)), chunk.repeated]
        return keys, [*args, msgspec.msgpack.encode(events), len(chunk.letters), *chunk.letters]
