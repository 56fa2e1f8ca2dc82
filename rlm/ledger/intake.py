"""Drains the audit list into the ledger, chunk by chunk, so that a crash at any line loses and doubles nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.core.item import BadItemError, Excerpt
from rlm.ledger.chunks import Chunk, ChunkWriter
from rlm.ledger.client import run_lasting
from rlm.ledger.connect import translated, translating
from rlm.ledger.keys import longest_item
from rlm.ledger.letters import NewLetters
from rlm.ledger.quarantine import Giants, Quarantine
from rlm.ledger.scripts import Part
from rlm.settings.secrets import EMBEDDED

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger.front import StoreFront
    from rlm.ledger.store import Store

#: How long a run drains before it is planned, seconds.
FIRST_SECONDS = 0.25
#: How long it drains between two turns of the release loop, seconds, at least: a turn costs some milliseconds.
PIECE_SECONDS = 0.05
#: No drain is so quick that it took less, seconds.
SHORTEST_SECONDS = 0.001

#: Items a chunk holds at the most: Redis takes some milliseconds for so many, and serves nobody else meanwhile.
CHUNK_ITEMS = 100
#: Bytes of items after which a chunk ends, so that memory does not follow the backlog.
CHUNK_BYTES = 1_000_000
#: From so many items on the embedded server shortens its append-only file after the run, unless that has so many bytes
#: before: it forks to do so, which holds up the calls of a run, and the child takes a processor's time.
DEEP_ITEMS = 100_000
DEEP_LOG_BYTES = 1_000_000_000
#: What the server has by default.
LOG_BYTES = 64 * 1024 * 1024
#: What `take_chunk` returns if the key of an event holds something else.
_NO_HASH = -2


class _Taken(NamedTuple):
    """How many events were taken, or a negative number if none could be; how many were duplicates; the next items."""

    events: int
    duplicates: int = 0
    next_items: Sequence[bytes] = ()


class Drain:
    """Drains for the run `run`, a piece at a time; whoever takes the run over goes on with a drain of its own.

    A million items take half a minute. The first calls do not wait for that: the conductor drains for a moment, plans,
    and takes the rest between two turns of the release loop.

    `over` says whether all is taken. `taken` counts by type the events that the run took so far, whoever conducted it.
    """

    def __init__(self, store: Store, token: int, run: Run) -> None:
        self._store = store
        self._token = token
        self.run = run
        self._priorities = {one.name: one.priority for one in store.settings.event_types}
        self._look()
        self._taken_before, self._left_before = self.taken, self._left
        if self._left > DEEP_ITEMS:
            store.intake.rewrite_log_above(DEEP_LOG_BYTES)
        self._worked_seconds = 0.0
        self._begin()

    def work(self, seconds: float, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Take chunks for about `seconds`, one at least, as long as it `goes_on`, which is asked after each.

        Raises:
            FencedError: another conductor leads.
            StoreError: Redis failed; call it again once Redis is back.
        """
        began = system_clock.monotonic()
        until = began + seconds
        try:
            for _events in self._chunks:
                crash_point("drain.chunk_taken")
                if not goes_on() or system_clock.monotonic() >= until:
                    break
            else:
                self._begin()  # somebody may stage more by hand
            self._look()
        except StoreError:
            self._begin()  # an iterator that has raised is at its end
            raise
        finally:
            self._worked_seconds += system_clock.monotonic() - began

    def fill(self, pause: float) -> float:
        """Take in more instead of a pause, if there is more; return how long to pause then, seconds."""
        if self.over:
            return pause
        self.work(max(pause, PIECE_SECONDS))
        return 0.0

    @property
    def left(self) -> int:
        """How many items the run has still to take."""
        return self._left

    def takes(self, seconds: float) -> int:
        """Estimate how many of the items left can be taken within `seconds`, at the speed of those taken here."""
        items = self._left_before - self._left
        if items <= 0 or math.isinf(seconds):
            return self._left
        return min(self._left, math.ceil(max(0.0, seconds) * items / max(self._worked_seconds, SHORTEST_SECONDS)))

    def untaken(self, seconds: float = math.inf) -> dict[str, int]:
        """Estimate by type how many events the items hold that are taken within `seconds`: as many as those taken here.

        Nothing is known of them before one is taken here.
        """
        items = self._left_before - self._left
        if items <= 0 or not (left := self.takes(seconds)):
            return {}
        return {name: round((number - self._taken_before[name]) * left / items) for name, number in self.taken.items()}

    def _begin(self) -> None:
        self._chunks = self._store.intake.drain(self._token, self.run.id, self._priorities)

    def _look(self) -> None:
        tally = self._store.runs.tally(self.run.id)
        self.taken: Mapping[str, int] = {name: tally.get(f"taken:{name}", 0) for name in self._priorities}
        self._left, staged = self._store.intake.untaken(self.run.id)
        self.over = staged and not self._left


class Intake(Part):
    """The drain. It belongs to the conductor: every step carries the fencing token and the run it drains for."""

    def __init__(self, store: StoreFront) -> None:
        super().__init__(store)
        queue = store.settings.queue
        self._quarantine = Quarantine(store)
        self._max_item_bytes = queue.max_item_bytes
        self._chunks = ChunkWriter(self._keys, queue.max_item_bytes, self._now, compress=queue.compress)
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
        taking = self._script("take_chunk").begin(self._client, chunk.keys, [token, *reading, *chunk.args])

        def taken() -> _Taken:
            events, *more = taking()
            if events == _NO_HASH:  # else its item would be taken for a duplicate, and nobody would have it
                event = self._keys.event(chunk.events[more[0] - 1].id)
                self._quarantine.set_aside(token, event, "is not a hash, as an event is")
            if events < 0:
                return _Taken(events)
            duplicates, sizes, items = more
            ends = accumulate(msgspec.msgpack.decode(sizes), initial=0)
            return _Taken(events, duplicates, [items[first:end] for first, end in pairwise(ends)])

        return taken

    def rewrite_log_above(self, size: int) -> None:
        """Have the embedded server leave its append-only file as it is up to so many bytes; another is not RLM's."""
        if self._store.settings.redis.url == EMBEDDED:
            self._ask("CONFIG", "SET", "auto-aof-rewrite-min-size", size)

    @translating
    def ever_taken(self) -> int:
        """Count the events that were ever taken into the ledger."""
        return int(self._ask("GET", self._keys.sequence) or 0)

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
        """Push items onto the audit list, as the audit system does; return how many wait there now.

        Raises:
            StoreUnreachableError: they were not pushed, or a fail-over may lose them: push them again.
        """
        with translated(self._client):
            return int(run_lasting(self._client, "LPUSH", self._keys.events, *items))
