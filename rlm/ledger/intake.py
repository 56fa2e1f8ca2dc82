"""Drains the audit list into the ledger, chunk by chunk, so that a crash at any line loses and doubles nothing."""

from __future__ import annotations

import hashlib
import secrets
import sys
from typing import TYPE_CHECKING, NamedTuple, cast

from rlm.core.failpoints import crash_point
from rlm.core.item import MAX_PRIORITY, BadItemError, Excerpt, decode_item, encode_letter, event_id
from rlm.core.text import is_name
from rlm.ledger.connect import translated, translating
from rlm.ledger.keys import longest_item
from rlm.ledger.quarantine import Quarantine
from rlm.ledger.scripts import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    import redis

    from rlm.core.item import Item
    from rlm.ledger.keys import Keys
    from rlm.ledger.scripts import Argument

#: Items a chunk holds at the most.
CHUNK_ITEMS = 400
#: Bytes of items after which a chunk ends, so that memory does not follow the backlog.
CHUNK_BYTES = 1_000_000
#: Bytes to be written for a chunk, and events and letters together, after which it ends as well: an item may make many
#: of both, each of which holds the item, and Redis writes a chunk in one go.
CHUNK_WRITTEN_BYTES = 1_000_000
CHUNK_WRITTEN = 500
#: Bytes of an item that its letters hold altogether; those beyond the first that exceed it hold an excerpt.
WHOLE_BYTES = 256_000

#: A giant is read so many bytes at a time; a multiple of 3, so that base64 of the pieces is that of the whole.
PIECE_BYTES = 3 * 2**18

#: What `take_chunk` returns if the key of an event holds something else.
_NO_HASH = -2

#: A step of priority in an event's order score. 2^42 arrivals fit in a step, and 100 steps in a double.
PRIORITY_STEP = 2**42


def order_offset(priority: int) -> int:
    """Return what `priority` adds to an event's order score: the higher the priority, the smaller, the earlier."""
    return (MAX_PRIORITY - priority) * PRIORITY_STEP


class Giants(Part):
    """The giants of one list, entries that are too large to be read. Setting one aside needs the lease's token.

    Redis has to copy an element of a list to tell its size; for a string it does not, and can return a part of it. So
    an entry of more than `longest` bytes is moved to a string of its own when it is found. The list of what was set
    aside has its name. Nobody can guess that name, so no item is mistaken for it.
    """

    def __init__(self, client: redis.Redis, keys: Keys, entries: str, longest: int) -> None:
        """Read the list at the key `entries`, entries of at most `longest` bytes."""
        super().__init__(client, keys)
        self._entries = entries
        self._longest = longest

    def peek(self, token: int, count: int, size: int) -> tuple[str, list[bytes]]:
        """Return the name of the oldest giant, "" without one, and the oldest entries before the next giant.

        Of those at most `count`, and no more after `size` bytes.
        """
        keys, name = self._keys, secrets.token_hex(16)
        names = [self._entries, keys.aside(self._entries), keys.giant(name), keys.lease]
        giant, *entries = self._run("peek_items", names, [token, count, size, self._longest, name])
        return giant.decode(), entries

    def size(self, name: str) -> int:
        """Return the size of a giant in bytes; 0 when it was taken meanwhile."""
        with translated(self._client):
            return self._client.strlen(self._keys.giant(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a giant piece by piece; nothing when it was taken meanwhile."""
        start = 0
        while True:
            with translated(self._client):
                piece = self._client.getrange(self._keys.giant(name), start, start + PIECE_BYTES - 1)
            if not piece:
                return
            yield cast("bytes", piece)
            start += PIECE_BYTES


class _NewEvent(NamedTuple):
    """An event as `take_chunk` reads it; `item` is the index of its item in the chunk, from 1."""

    item: int
    event_id: str
    type: str
    wallet_name: str
    priority: int


class _Letters:
    """Writes the dead letters of a chunk, which all have the same time, read `now` and only if there is one."""

    def __init__(self, run_id: str, now: Callable[[], float]) -> None:
        self._run_id = run_id
        self._now = now
        self._at = 0.0

    def write(self, item: bytes | Excerpt, error: BadItemError, event: str | None = None) -> bytes:
        self._at = self._at or self._now()
        return encode_letter(item, error.reason, error.detail, failed_at=self._at, run_id=self._run_id, event=event)


class Intake(Part):
    """The drain. It belongs to the conductor: every step carries the fencing token and the run it drains for."""

    def __init__(self, client: redis.Redis, keys: Keys, max_item_bytes: int) -> None:
        super().__init__(client, keys)
        self._quarantine = Quarantine(client, keys)
        self._max_item_bytes = max_item_bytes
        self._staged = Giants(client, keys, keys.processing, longest_item(max_item_bytes))

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
        while True:
            giant, items = self._staged.peek(token, CHUNK_ITEMS, CHUNK_BYTES)
            if not giant and not items:
                return
            if giant:
                yield from self._reject_giant(token, run_id, giant)
            taken = self._take_chunk(token, run_id, items, priorities)[0] if items else 0
            yield max(0, taken)  # also where none was: the caller has a lease to prolong

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
        letter = _Letters(run_id, self._now).write(excerpt, BadItemError.too_large(size, self._max_item_bytes))
        names = self._keys
        keys = [names.lease, names.run(run_id), names.tally(run_id)]
        keys += [names.aside(names.processing), names.giant(name), names.failed]
        self._run("take_giant", keys, [token, run_id, name, letter])

    def _take_chunk(
        self, token: int, run_id: str, items: Sequence[bytes], priorities: Mapping[str, int]
    ) -> tuple[int, int]:
        write = _Letters(run_id, self._now).write
        letters: list[bytes] = []
        events: list[_NewEvent] = []
        number = written_bytes = 0
        for number, raw in enumerate(items, start=1):
            new_events, new_letters = self._sort(raw, number, priorities, write)
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
        args: list[Argument] = [token, run_id, number, digest, len(letters), PRIORITY_STEP, *types, *letters]
        for one in events:
            args += one
        taken, duplicates = self._run("take_chunk", keys, args)
        if taken == _NO_HASH:  # else its item would be taken for a duplicate, and nobody would have it
            event = names.event(events[duplicates - 1].event_id)
            self._quarantine.set_aside(token, event, "is no hash, as an event is")
        return taken, duplicates

    def _sort(
        self, raw: bytes, index: int, priorities: Mapping[str, int], write: Callable[..., bytes]
    ) -> tuple[list[_NewEvent], list[bytes]]:
        """Return the events of an item, and the letters of what is wrong with it, as `write` writes them."""
        try:
            item = decode_item(raw, self._max_item_bytes)
        except BadItemError as error:
            return [], [write(raw, error)]
        events = [
            _NewEvent(
                index,
                event_id(item.id, name),
                name,
                item.wallet_name,
                priorities[name] if item.priority is None else item.priority,
            )
            for name in item.types
            if name in priorities
        ]
        return events, [] if len(events) == len(item.types) else list(_unknown(raw, item, priorities, write))

    @translating
    def ever_taken(self) -> int:
        """Count the events that were ever taken into the ledger."""
        return int(self._get(self._keys.sequence) or 0)

    def begin_sequence(self, number: int) -> None:
        """Begin to count arrivals with `number`, if the count was lost."""
        with translated(self._client):
            self._client.set(self._keys.sequence, number, nx=True)

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

    def pages(self, items: str, skip: int = 0, most: int = sys.maxsize) -> Iterator[list[bytes]]:
        """Yield pages of a list of items, at most `most` of them, the oldest first and without the `skip` oldest.

        An item that is too large to be taken comes back empty.
        """
        longest = self._max_item_bytes
        while page := self._run("look_items", [items], [skip, min(most, CHUNK_ITEMS), CHUNK_BYTES, longest]):
            yield page
            skip += len(page)
            most -= len(page)

    def clear(self) -> int:
        """Remove all items from the audit list in one step; return how many there were."""
        return int(self._batch([("LLEN", self._keys.events), ("UNLINK", self._keys.events)], transaction=True)[0])

    def push(self, items: Sequence[bytes]) -> int:
        """Push items onto the audit list, as the audit system does; return how many wait there now."""
        with translated(self._client):
            return self._client.lpush(self._keys.events, *items)


def _unknown(raw: bytes, item: Item, configured: Container[str], write: Callable[..., bytes]) -> Iterator[bytes]:
    """Yield a letter for each type of an item that is not configured; the first ones hold the item whole.

    It has no event id if the type's name is none: `a` + `b:T` would be the id of `a:b` + `T`.
    """
    unknown = [event for event in item.events if event.type not in configured]
    whole = max(1, WHOLE_BYTES // len(raw))
    excerpt = Excerpt.of(raw) if len(unknown) > whole else None
    for number, event in enumerate(unknown):
        held = raw if number < whole or excerpt is None else excerpt
        yield write(held, BadItemError.unknown_type(event.type), event.id if is_name(event.type) else None)
