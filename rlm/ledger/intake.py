"""Drains the audit list into the ledger, chunk by chunk, so that a crash at any line loses and doubles nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rlm.core.failpoints import crash_point
from rlm.core.item import BadItemError, Excerpt
from rlm.ledger.chunks import Chunk, ChunkWriter
from rlm.ledger.connect import translating
from rlm.ledger.keys import longest_item
from rlm.ledger.letters import NewLetters
from rlm.ledger.quarantine import Giants
from rlm.ledger.scripts import Part
from rlm.ledger.values import reading, whole

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: Items a chunk holds at the most: Redis takes some milliseconds for so many, and serves nobody else meanwhile.
CHUNK_ITEMS = 100
#: Bytes of items after which a chunk ends, so that memory does not follow the backlog.
CHUNK_BYTES = 1_000_000


class _Taken(NamedTuple):
    """How many events were taken, or a negative number if none could be; the next items."""

    events: int
    next_items: Sequence[bytes] = ()


class Intake(Part):
    """Moves items into the ledger. It belongs to the conductor: each step carries the fencing token and the run."""

    def __init__(self, store: StoreFront) -> None:
        super().__init__(store)
        queue = store.settings.queue
        self._max_item_bytes = queue.max_item_bytes
        self._chunks = ChunkWriter(self._keys, queue.max_item_bytes, self._now)
        self._longest = longest_item(queue.max_item_bytes)
        self._staged = Giants(store, self._keys.processing, self._longest)

    def drain(self, token: int, run_id: str, priorities: Mapping[str, int]) -> Iterator[int]:
        """Take everything that waits into the ledger, yielding the number of events taken after each chunk, 0 between.

        Staging is emptied first, then what is on the audit list at that moment is staged, once a run, and emptied.
        `priorities` holds each configured type's own priority. Between chunks the caller may stop, or prolong its
        lease; what is still staged then stays for the next drain.
        """
        yield from self._empty_staging(token, run_id, priorities)
        keys = self._keys
        self._run("stage_items", [keys.lease, keys.run(run_id), keys.events, keys.processing], [token, run_id])
        crash_point("drain.staged")
        yield from self._empty_staging(token, run_id, priorities)

    def _empty_staging(self, token: int, run_id: str, priorities: Mapping[str, int]) -> Iterator[int]:
        """Take all that is staged. While Redis takes a chunk and reads on, the one behind it is decoded.

        None is taken unasked.
        """
        chunk: Chunk | None = None
        items: list[bytes] = []  # behind the chunk
        while True:
            taking = self._take_chunk(token, chunk, len(items)) if chunk else None
            taken = _Taken(0)
            try:
                behind = self._chunks.write(run_id, items, priorities) if items else None
            finally:
                if taking:
                    taken = taking()
            if taking:
                yield max(0, taken.events)  # also where none was: the caller has a lease to prolong
            if taken.events < 0:  # staging is not as it was read
                chunk, items = None, []
                continue
            chunk, items = behind, [*items[behind.number if behind else 0 :], *taken.next_items]
            if not items:
                giant, items = self._staged.peek(token, CHUNK_ITEMS, CHUNK_BYTES, chunk.number if chunk else 0)
                if giant:
                    yield from self._reject_giant(token, run_id, giant)
                elif not items and not chunk:
                    return

    def _reject_giant(self, token: int, run_id: str, name: str) -> Iterator[int]:
        """Make a dead letter of a staged item that is too large to be read, in constant memory.

        Yields 0 after each piece, because reading may take longer than the lease lasts.
        """
        crash_point("drain.giant_aside")
        size = self._staged.size(name)
        excerpt = Excerpt(size)
        for piece in self._staged.pieces(name):
            excerpt.add(piece)
            yield 0
        letter = NewLetters(run_id, self._now).write(excerpt, BadItemError.too_large(size, self._max_item_bytes))
        names = self._keys
        keys = [names.lease, names.run(run_id), names.tally(run_id)]
        keys += [names.aside(names.processing), names.giant(name), names.failed]
        self._run("take_giant", keys, [token, run_id, name, letter])

    def _take_chunk(self, token: int, chunk: Chunk, read: int = 0) -> Callable[[], _Taken]:
        """Take a chunk, behind which so many items are `read`; return what waits for the answer.

        The answer has the next items as well, if few were read.
        """
        reading = [read, CHUNK_ITEMS if read <= CHUNK_ITEMS else 0, CHUNK_BYTES, self._longest]
        keys, args = self._chunks.call(chunk)
        taking = self._script("take_chunk").begin(self._client, keys, [token, *reading, *args])

        def taken() -> _Taken:
            events, *more = taking()
            if events < 0:
                return _Taken(events)
            sizes, items = more
            ends = accumulate(msgspec.msgpack.decode(sizes), initial=0)
            return _Taken(events, [items[first:end] for first, end in pairwise(ends)])

        return taken

    @translating
    def ever_taken(self) -> int:
        """Count the events that were ever taken into the ledger."""
        return reading(whole, self._ask("GET", self._keys.sequence), self._keys.sequence, 0)

    def untaken(self, run_id: str) -> tuple[int, bool]:
        """Count the items that the open run has still to take; return also whether it has staged the audit list."""
        keys = self._keys
        lists = (keys.processing, keys.aside(keys.processing), keys.events)
        asked = [*(("LLEN", one) for one in lists), ("HEXISTS", keys.run(run_id), "staged")]
        waiting, aside, listed, staged = self._batch(asked, transaction=True)
        return int(waiting + aside + (0 if staged else listed)), bool(staged)

    def waiting(self) -> int:
        """Count the items on the audit list and in staging, including those set aside."""
        keys = self._keys
        lists = (keys.events, keys.processing, keys.aside(keys.processing))
        return sum(self._batch((("LLEN", one) for one in lists), transaction=True))

    def lengths(self) -> tuple[int, int]:
        """Count the items in staging, without those set aside, and those on the audit list, at one instant."""
        lists = (self._keys.processing, self._keys.events)
        staged, listed = self._batch((("LLEN", one) for one in lists), transaction=True)
        return staged, listed

    def look(self, items: str, skip: int, count: int, at_once: int) -> tuple[int, list[bytes]]:
        """Return the length of a list of items, and at most `count` of them after the `skip` oldest, oldest first.

        With a negative `skip`, so many of the newest have not been read. An item that is too large to be taken comes
        back empty. At first `at_once` items are read, however large.
        """
        args = [skip, count, CHUNK_BYTES, self._max_item_bytes, at_once]
        length, *page = self._run("look_items", [items], args)
        return length, page

    def clear(self) -> int:
        """Remove all items from the audit list in one step; return how many there were."""
        return int(self._batch([("LLEN", self._keys.events), ("UNLINK", self._keys.events)], transaction=True)[0])

    def push(self, items: Sequence[bytes]) -> int:
        """Push items onto the audit list, as the audit system does; return how many wait there now."""
        return int(self._ask("LPUSH", self._keys.events, *items))
