"""Chunks of staged items, decoded: their events and dead letters, as `take_chunk` writes them into the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from rlm.core.item import BadItemError, decode_item, event_id, order_offset
from rlm.ledger.keys import Keys
from rlm.ledger.letters import NewLetters

#: Bytes to be written for a chunk, and events and letters together, after which it ends as well: an item may make many
#: events, each of which holds the item, and Redis writes a chunk in one go.
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

    def as_written(self, keys: Keys) -> dict[str, Any]:
        """Return its letters and events as `take_chunk` reads them."""
        return {
            "letters": [letter.decode() for letter in self.letters],
            "types": [*self.types],
            "ready": [*map(keys.ready, self.types)],
            "numbers": [*self.types.values()],
            "ids": self.ids,
            "keys": [*map(keys.event, self.ids)],
            "of": self.of,
            "wallets": self.wallets,
            "offsets": self.offsets,
        }


class ChunkWriter:
    """Makes chunks of staged items, of at most `max_item_bytes` each; `now` is the time of their letters."""

    def __init__(self, max_item_bytes: int, now: Callable[[], float]) -> None:
        self._max_item_bytes = max_item_bytes
        self._now = now

    def write(self, run_id: str, items: Sequence[bytes], priorities: Mapping[str, int]) -> Chunk:
        """Decode as many of the oldest staged items as a chunk holds."""
        writer = NewLetters(run_id, self._now)
        letters: list[bytes] = []
        by_type: dict[str, _NewEvents] = defaultdict(dict)
        number = written = written_bytes = repeated = 0
        for number, raw in enumerate(items, start=1):
            new, again, letter = self._sort(raw, number - 1, priorities, by_type, writer)
            repeated += again
            written += new
            written_bytes += (new + again) * len(raw)
            if letter:
                letters.append(letter)
                written += 1
                written_bytes += len(letter)
            if written_bytes > CHUNK_WRITTEN_BYTES or written > CHUNK_WRITTEN:
                break
        types = dict(sorted(by_type.items()))
        events = [*chain.from_iterable(of_type.values() for of_type in types.values())]
        columns = zip(*events, strict=True) if events else ((),) * 3
        numbers, ids = {name: len(of_type) for name, of_type in types.items()}, [*chain.from_iterable(types.values())]
        return Chunk(run_id, items[:number], letters, repeated, numbers, ids, *columns)

    def _sort(
        self, raw: bytes, of: int, priorities: Mapping[str, int], by_type: dict[str, _NewEvents], writer: NewLetters
    ) -> tuple[int, int, bytes]:
        """Add the events of an item; return how many are new and how many are not, and the letter of what is wrong."""
        try:
            item = decode_item(raw, self._max_item_bytes)
        except BadItemError as error:
            return 0, 0, writer.reject(raw, error)
        id_, wallet, own = item.id, item.wallet_name, item.priority
        new = again = 0
        for name in item.types:
            if name in priorities:
                one = (of, wallet, order_offset(priorities[name] if own is None else own))
                if by_type[name].setdefault(event_id(id_, name), one) is one:
                    new += 1
                else:
                    again += 1
        if new + again == len(item.types):
            return new, again, b""
        return new, again, writer.unknown(raw, item, [name for name in item.types if name not in priorities])
