"""Drains the audit list into the ledger, chunk by chunk, so that a crash at any line loses and doubles nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from rlm.core.failpoints import crash_point
from rlm.core.item import BadItemError, decode_item, event_id
from rlm.ledger.archive import Archivist
from rlm.ledger.connect import translated
from rlm.ledger.letters import NewLetters
from rlm.ledger.scripts import Access, Part
from rlm.ledger.values import reading, whole

#: Items a chunk holds at the most: Redis takes some milliseconds for so many, and serves nobody else meanwhile.
CHUNK_ITEMS = 100
#: Bytes written for a chunk after which it ends, so that memory does not follow the backlog.
CHUNK_BYTES = 1_000_000
#: Events and letters after which it ends as well, because an item may make many events, each of which holds the item.
CHUNK_WRITTEN = 125


class NewEvent(NamedTuple):
    """An event to be written: what its priority adds to its order, and the index of its item in the chunk."""

    id: str
    wallet: str
    offset: int
    item: int


class Chunk(msgspec.Struct):
    """The `items` oldest staged items as `take_chunk` writes them; or the one that is moved aside, of the size `giant`.

    Of equal events the script takes the first and counts the others.
    """

    items: int = 0
    giant: int = 0
    letters: list[str] = []
    events: list[NewEvent] = []


class Intake(Part):
    """Moves items into the ledger. It belongs to the conductor: each step carries the fencing token and the run."""

    def __init__(self, store: Access, archivist: Archivist) -> None:
        super().__init__(store)
        self._archivist = archivist
        self._longest = store.settings.queue.max_item_bytes

    def drain(self, token: int, run_id: str, priorities: Mapping[str, int]) -> Iterator[int]:
        """Take everything that waits into the ledger, yielding the number of events taken after each chunk.

        Staging is emptied first, then what is on the audit list at that moment is staged, once a run, and emptied.
        `priorities` holds each configured type's own priority. Between chunks the caller may stop, or prolong its
        lease; what is still staged then stays for the next drain. So it does while there are more dead letters than
        there may be and the disk takes none.
        """
        yield from self._empty_staging(token, run_id, priorities)
        self._take(token, run_id, Chunk())
        crash_point("drain.staged")
        yield from self._empty_staging(token, run_id, priorities)

    def _empty_staging(self, token: int, run_id: str, priorities: Mapping[str, int]) -> Iterator[int]:
        self._archivist.step()
        while not self._archivist.is_refused:
            items = self._oldest(self._keys.processing, 0, CHUNK_ITEMS)
            if not items:
                return
            chunk = self._decode(run_id, items, priorities)
            taken = self._take(token, run_id, chunk, items[: chunk.items])
            if chunk.letters:
                self._archivist.step()
            yield max(0, taken)  # also where staging was not as it was read: the caller has a lease to prolong

    def _decode(self, run_id: str, items: Sequence[bytes], priorities: Mapping[str, int]) -> Chunk:
        """Decode as many of the oldest items as a chunk holds, up to one that is too large."""
        writer, chunk = NewLetters(run_id, self._store.now), Chunk()
        if (size := len(items[0])) > self._longest:
            return Chunk(giant=size, letters=[writer.unread(size, self._longest, self._keys.aside).decode()])
        written_bytes = 0
        for index, raw in enumerate(items):
            is_full = written_bytes > CHUNK_BYTES or len(chunk.events) + len(chunk.letters) > CHUNK_WRITTEN
            if is_full or len(raw) > self._longest:
                break
            chunk.items = index + 1
            try:
                item = decode_item(raw, self._longest)
            except BadItemError as error:
                chunk.letters.append(writer.reject(raw, error).decode())
                continue
            written_bytes += len(raw) * len(item.types)
            if unknown := [name for name in item.types if name not in priorities]:
                chunk.letters.append(writer.unknown(raw, item, unknown).decode())
            chunk.events += [
                NewEvent(event_id(item.id, name), item.wallet_name, item.offset(priorities[name]), index)
                for name in item.types
                if name in priorities
            ]
        return chunk

    def _take(self, token: int, run_id: str, chunk: Chunk, items: Sequence[bytes] = ()) -> int:
        keys = self._keys
        lists = {"staging": keys.processing, "events": keys.events, "failed": keys.failed}
        read = b"\n".join(reversed(items))
        return int(self._run("take_chunk", **lists, token=token, run_id=run_id, read=read, chunk=chunk))

    @translated()
    def ever_taken(self) -> int:
        """Count the events that were ever taken into the ledger."""
        return reading(whole, self._ask("HGET", self._keys.lease, "sequence"), self._keys.lease, 0)

    def untaken(self, run_id: str) -> tuple[int, bool]:
        """Count the items that the open run has still to take; return also whether it has staged the audit list."""
        keys = self._keys
        commands = [("LLEN", keys.processing), ("LLEN", keys.events), ("HMGET", keys.run, "run_id", "staged")]
        waiting, listed, (current, staged) = self._batch(commands, transaction=True)
        has_staged = staged is not None and current == run_id.encode()
        return int(waiting + (0 if has_staged else listed)), has_staged

    def lengths(self) -> tuple[int, int]:
        """Count the items in staging, and those on the audit list, at one instant."""
        staged, listed = self._batch([("LLEN", self._keys.processing), ("LLEN", self._keys.events)], transaction=True)
        return staged, listed

    def look(self, items: str, skip: int, count: int) -> list[bytes]:
        """Return at most `count` items of a list after the `skip` oldest, oldest first.

        An item that is too large to be taken comes back empty.
        """
        return [raw if len(raw) <= self._longest else b"" for raw in self._oldest(items, skip, count)]

    def clear(self) -> int:
        """Remove all items from the audit list in one step; return how many there were."""
        return int(self._batch([("LLEN", self._keys.events), ("UNLINK", self._keys.events)], transaction=True)[0])

    def push(self, items: Sequence[bytes]) -> int:
        """Push items onto the audit list, as the audit system does; return how many wait there now."""
        return int(self._ask("LPUSH", self._keys.events, *items))
