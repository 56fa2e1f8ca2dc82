"""Drains the audit list into the ledger, chunk by chunk, so that a crash at any line loses and doubles nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlm.core.failpoints import crash_point
from rlm.ledger.archive import Archivist
from rlm.ledger.chunks import Chunk, ChunkWriter
from rlm.ledger.connect import translating
from rlm.ledger.entries import Entries
from rlm.ledger.letters import NewLetters
from rlm.ledger.scripts import Part
from rlm.ledger.values import reading, whole

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: Items a chunk holds at the most: Redis takes some milliseconds for so many, and serves nobody else meanwhile.
CHUNK_ITEMS = 100
#: Bytes of items after which a chunk ends, so that memory does not follow the backlog.
CHUNK_BYTES = 1_000_000


class Taken(Entries, frozen=True):
    """What `take_chunk` has done: how many events were taken, -1 if none could be; and the items behind the chunk."""

    taken: int = 0


class Intake(Part):
    """Moves items into the ledger. It belongs to the conductor: each step carries the fencing token and the run."""

    def __init__(self, store: Store, archivist: Archivist) -> None:
        super().__init__(store)
        self._archivist = archivist
        self._longest = store.settings.queue.max_item_bytes
        self._chunks = ChunkWriter(self._longest, self._now)

    def drain(self, token: int, run_id: str, priorities: Mapping[str, int]) -> Iterator[int]:
        """Take everything that waits into the ledger, yielding the number of events taken after each chunk, 0 between.

        Staging is emptied first, then what is on the audit list at that moment is staged, once a run, and emptied.
        `priorities` holds each configured type's own priority. Between chunks the caller may stop, or prolong its
        lease; what is still staged then stays for the next drain. So it does while there are more dead letters than
        there may be and the disk takes none.
        """
        yield from self._empty_staging(token, run_id, priorities)
        keys = self._keys
        lists = {"events": keys.events, "staging": keys.processing}
        self._run("stage_items", lease=keys.lease, run=keys.run, **lists, token=token, run_id=run_id)
        crash_point("drain.staged")
        yield from self._empty_staging(token, run_id, priorities)

    def _empty_staging(self, token: int, run_id: str, priorities: Mapping[str, int]) -> Iterator[int]:
        """Take all that is staged. While Redis takes a chunk and reads on, the one behind it is decoded.

        None is taken unasked.
        """
        chunk: Chunk | None = None
        items: list[bytes] = []  # behind the chunk
        looks = True
        while not (looks and self._too_many_letters(token)):
            looks = bool(chunk and chunk.letters)
            taking = self._take_chunk(token, chunk, len(items)) if chunk else None
            taken = Taken()
            try:
                behind = self._chunks.write(run_id, items, priorities) if items else None
            finally:
                if taking:
                    taken = taking()
            if taking:
                yield max(0, taken.taken)  # also where none was: the caller has a lease to prolong
            if taken.taken < 0:  # staging is not as it was read
                chunk, items = None, []
                continue
            chunk, items = behind, [*items[behind.number if behind else 0 :], *taken.each]
            if not items:
                read = self._read_staged(chunk.number if chunk else 0)
                items = read.each
                if not items and not chunk:
                    if not read.giant:
                        return
                    self._move_giant(token, run_id, read.giant)
                    looks = True
                    yield 0

    def _too_many_letters(self, token: int) -> bool:
        """Archive dead letters beyond those that there may be; return whether that failed, and there are too many."""
        self._archivist.step(token)
        return self._archivist.is_refused

    def _read_staged(self, skip: int) -> Entries:
        reading: dict[str, Any] = {"skip": skip, "count": CHUNK_ITEMS, "bytes": CHUNK_BYTES, "longest": self._longest}
        return Entries.read(self._run("read_staged", staging=self._keys.processing, **reading))

    def _move_giant(self, token: int, run_id: str, size: int) -> None:
        """Move the oldest staged item aside, which is too large to be read, and make a dead letter of it."""
        keys = self._keys
        letter = NewLetters(run_id, self._now).unread(size, self._longest, keys.aside)
        self._run(
            "move_giant",
            lease=keys.lease,
            run=keys.run,
            tally=keys.tally,
            staging=keys.processing,
            aside=keys.aside,
            failed=keys.failed,
            token=token,
            run_id=run_id,
            size=size,
            letter=letter,
        )

    def _take_chunk(self, token: int, chunk: Chunk, read: int = 0) -> Callable[[], Taken]:
        """Take a chunk, behind which so many items are `read`; return what waits for the answer.

        The answer has the next items as well, if few were read.
        """
        keys, run_id = self._keys, chunk.run_id
        taking = self._script("take_chunk").begin(
            self._client,
            lease=keys.lease,
            run=keys.run,
            tally=keys.tally,
            staging=keys.processing,
            failed=keys.failed,
            types=keys.types,
            sequence=keys.sequence,
            prefix=keys.prefix,
            token=token,
            run_id=run_id,
            items=chunk.number,
            read=b"\n".join(reversed(chunk.items)),
            repeated=chunk.repeated,
            chunk=chunk.as_written(keys),
            skip=read,
            count=CHUNK_ITEMS if read <= CHUNK_ITEMS else 0,
            bytes=CHUNK_BYTES,
            longest=self._longest,
        )
        return lambda: Taken.read(taking())

    @translating
    def ever_taken(self) -> int:
        """Count the events that were ever taken into the ledger."""
        return reading(whole, self._ask("GET", self._keys.sequence), self._keys.sequence, 0)

    def untaken(self, run_id: str) -> tuple[int, bool]:
        """Count the items that the open run has still to take; return also whether it has staged the audit list."""
        keys = self._keys
        asked = [("LLEN", keys.processing), ("LLEN", keys.events), ("HMGET", keys.run, "run_id", "staged")]
        waiting, listed, (current, staged) = self._batch(asked, transaction=True)
        has_staged = staged is not None and current == run_id.encode()
        return int(waiting + (0 if has_staged else listed)), has_staged

    def waiting(self) -> int:
        """Count the items on the audit list and in staging."""
        return sum(self.lengths())

    def lengths(self) -> tuple[int, int]:
        """Count the items in staging, and those on the audit list, at one instant."""
        lists = (self._keys.processing, self._keys.events)
        staged, listed = self._batch((("LLEN", one) for one in lists), transaction=True)
        return staged, listed

    def look(self, items: str, skip: int, count: int, at_once: int) -> tuple[int, list[bytes]]:
        """Return the length of a list of items, and at most `count` of them after the `skip` oldest, oldest first.

        With a negative `skip`, so many of the newest have not been read. An item that is too large to be taken comes
        back empty. At first `at_once` items are read, however large.
        """
        page = Entries.read(
            self._run(
                "look_items",
                list=items,
                skip=skip,
                count=count,
                bytes=CHUNK_BYTES,
                longest=self._longest,
                at_once=at_once,
            )
        )
        return page.length, page.each

    def clear(self) -> int:
        """Remove all items from the audit list in one step; return how many there were."""
        return int(self._batch([("LLEN", self._keys.events), ("UNLINK", self._keys.events)], transaction=True)[0])

    def push(self, items: Sequence[bytes]) -> int:
        """Push items onto the audit list, as the audit system does; return how many wait there now."""
        return int(self._ask("LPUSH", self._keys.events, *items))
