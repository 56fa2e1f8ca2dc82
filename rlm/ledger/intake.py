"""Drains the audit list into the ledger by `lua/intake.lua`, in chunks, so that no crash loses or doubles anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from rlm.core.clock import system_clock
from rlm.core.failpoints import crash_point
from rlm.core.item import BadItemError, decode_item, encode_letter, event_id
from rlm.core.text import is_name
from rlm.ledger.letters import Letters
from rlm.ledger.scripts import Access, Part

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger.store import Store

#: Items a chunk holds at the most: Redis takes some milliseconds for so many, and serves nobody else meanwhile.
CHUNK_ITEMS = 100
#: Bytes written for a chunk after which it ends, so that memory does not follow the backlog; and events and letters,
#: because an item may make many events, each of which holds the item.
CHUNK_BYTES, CHUNK_WRITTEN = 1_000_000, 125
#: A drain that finds this share of `maxmemory` in use stops: the lanes need the rest to settle their calls.
MEMORY_MARK = 0.9
#: How often it asks for that, seconds: in less than that it takes some chunks, of a few megabytes each at the most.
MEMORY_SECONDS = 0.02


class Drain:
    """Drains for the run `run`, a piece at a time; whoever takes the run over goes on with a drain of its own.

    A million items take most of a minute. The first calls do not wait for that: the conductor drains for a moment,
    plans, and takes the rest between its looks.

    `over` says whether all is taken, or the memory of Redis is used up to its mark, or the disk takes no dead letters:
    then the rest stays where it is, and is the first that the next run takes. `left` is how many items it has still to
    take, and `taken` counts by type the events that the run took so far, whoever conducted it.
    """

    def __init__(self, store: Store, token: int, run: Run) -> None:
        self._store = store
        self._token = token
        self.run = run
        self._is_full = False
        self._worked_seconds = 0.0
        self._look()
        self._taken_before, self._left_before = self.taken, self.left

    def work(self, seconds: float, goes_on: Callable[[], bool] = lambda: True, items: float = math.inf) -> None:
        """Take chunks for about `seconds`, or until there are so many events, while it `goes_on`; one at least.

        Raises:
            FencedError: another conductor leads.
            StoreError: Redis failed; call it again once Redis is back.
        """
        began, taken, looks_at = system_clock.monotonic(), 0, 0.0
        priorities = {kind.name: kind.priority for kind in self._store.settings.event_types}
        try:
            for events in self._store.intake.drain(self._token, self.run.id, priorities):
                crash_point("drain.chunk_taken")
                if system_clock.monotonic() >= looks_at:
                    looks_at = system_clock.monotonic() + MEMORY_SECONDS
                    memory = self._store.ask("INFO", "memory")
                    used, most = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
                    self._is_full = bool(most) and used > MEMORY_MARK * most
                taken += events
                if self._is_full or taken >= items or not goes_on() or system_clock.monotonic() - began >= seconds:
                    break
            self._look()
        finally:
            self._worked_seconds += system_clock.monotonic() - began

    def takes(self, seconds: float) -> int:
        """Estimate how many of the items left can be taken within `seconds`, at the speed of those taken here."""
        items = self._left_before - self.left
        if items <= 0:
            return self.left
        return min(self.left, math.ceil(max(0.0, seconds) * items / max(self._worked_seconds, 0.001)))

    def untaken(self, seconds: float) -> dict[str, int]:
        """Estimate by type how many events the items hold that are taken within `seconds`: as many as those taken here.

        Nothing is known of them before one is taken here.
        """
        items, left = self._left_before - self.left, self.takes(seconds)
        if items <= 0:
            return {}
        return {name: round((number - self._taken_before[name]) * left / items) for name, number in self.taken.items()}

    def _look(self) -> None:
        tally = self._store.runs.tally()
        self.taken: Mapping[str, int] = {name: tally.get(f"taken:{name}", 0) for name in self._store.settings.types}
        self.left, staged = self._store.intake.untaken(self.run.id)
        self.over = self._is_full or bool(self._store.letters.trouble) or (staged and not self.left)


class Chunk(msgspec.Struct):
    """The `items` oldest staged items as `take_chunk` writes them; or the one that is moved aside, of the size `giant`.

    Each event has its id, its wallet, what its priority adds to its order, and the index of its item. Of equal events
    the script takes the first and counts the others.
    """

    items: int = 0
    giant: int = 0
    letters: list[str] = []
    events: list[tuple[str, str, int, int]] = []


class Intake(Part):
    """Moves items into the ledger. It belongs to the conductor: each step carries the fencing token and the run."""

    def __init__(self, store: Access, letters: Letters) -> None:
        super().__init__(store)
        self._letters = letters
        self._longest = store.settings.queue.max_item_bytes

    def drain(self, token: int, run_id: str, priorities: Mapping[str, int]) -> Iterator[int]:
        """Take everything that waits into the ledger, yielding the number of events taken after each chunk.

        Staging is emptied first, then what is on the audit list at that moment is staged, once a run, and emptied.
        `priorities` holds each configured type's own priority. Between chunks the caller may stop, or prolong its
        lease; what is still staged then stays for the next drain. So it does while there are more dead letters than
        there may be and the disk takes none.
        """
        yield from self._empty_staging(token, run_id, priorities)
        lists = {"staging": self._keys.processing, "events": self._keys.events}
        self._run("stage_list", **lists, token=token, run_id=run_id)
        crash_point("drain.staged")
        yield from self._empty_staging(token, run_id, priorities)

    def _empty_staging(self, token: int, run_id: str, priorities: Mapping[str, int]) -> Iterator[int]:
        self._letters.archive_some()
        number = 1
        while not self._letters.trouble and (items := self._oldest(self._keys.processing, 0, CHUNK_ITEMS, number)):
            chunk = self._decode(run_id, items, priorities)
            number = max(1, chunk.items)  # the next ones are probably like these
            lists = {"staging": self._keys.processing, "failed": self._keys.failed}
            read = b"\n".join(reversed(items[: chunk.items]))
            taken = int(self._run("take_chunk", **lists, token=token, run_id=run_id, read=read, chunk=chunk))
            if chunk.letters:
                self._letters.archive_some()
            yield max(0, taken)  # also where staging was not as it was read: the caller has a lease to prolong

    def _decode(self, run_id: str, items: Sequence[bytes], priorities: Mapping[str, int]) -> Chunk:
        """Decode as many of the oldest items as a chunk holds, up to one that is too large."""
        chunk, at, written_bytes = Chunk(), self._store.clock.now(), 0

        def reject(raw: bytes, error: BadItemError, event: str | None = None, **origin: Any) -> None:
            origin |= {"run_id": run_id, "event": event}
            chunk.letters.append(encode_letter(raw, error.reason, str(error), failed_at=at, **origin).decode())

        for index, raw in enumerate(items):
            if len(raw) > self._longest:
                if not index:
                    chunk.giant = len(raw)
                    reject(b"null", BadItemError.too_large(len(raw), self._longest), aside=self._keys.aside)
                break
            if written_bytes > CHUNK_BYTES or len(chunk.events) + len(chunk.letters) > CHUNK_WRITTEN:
                break
            chunk.items = index + 1
            try:
                item = decode_item(raw)  # what it has is valid: id, wallet, types, priority
            except BadItemError as error:
                reject(raw, error)
                continue
            written_bytes += len(raw) * len(item.types)
            if unknown := [name for name in item.types if name not in priorities]:
                # `a` + `b:T` would be the id of `a:b`.
                event = event_id(item.id, unknown[0]) if len(unknown) == 1 and is_name(unknown[0]) else None
                reject(raw, BadItemError.unknown_types(unknown), event, types=unknown)
            chunk.events += [
                (event_id(item.id, name), item.wallet_name, item.offset(priorities[name]), index)
                for name in item.types
                if name in priorities
            ]
        return chunk

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
