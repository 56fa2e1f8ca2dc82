"""Takes items as the drain of a deep backlog does in its midst: their events are folded; and leaves strays behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rlm.core.item import type_of
from rlm.ledger.folded import fold
from rlm.ledger.intake import CHUNK_BYTES, CHUNK_ITEMS, Intake, _Taken
from rlm.ledger.scripts import Script
from tests.store import looks, steps

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.ledger.chunks import Chunk

#: The two steps of a chunk: the command that writes its events, and the script that gives them their places.
WRITE = "MSETNX"
PLACING = Script("take_folded")


def stage(store: Store, *items: bytes) -> None:
    """Stage items, the first being the oldest, behind those that are staged."""
    store.client.lpush(store.keys.processing, *items)


def staged(store: Store) -> list[bytes]:
    """Return what is staged, the oldest first."""
    return store.client.lrange(store.keys.processing, 0, -1)[::-1]


def before(store: Store) -> _Taken:
    """Return an answer with which a chunk that is staged now may have been read."""
    return _Taken(0, staged=store.client.llen(store.keys.processing), at=b"%.3f" % store.now())


def chunk_of(store: Store, run: Run, *items: bytes) -> Chunk:
    """Decode items as a chunk."""
    return store.intake._chunks.write(run.id, items, steps.priorities(store))


def take(store: Store, token: int, run: Run, *items: bytes) -> tuple[int, int]:
    """Stage items and take them folded; return the numbers of taken events and of duplicates."""
    stage(store, *items)
    chunk = chunk_of(store, run, *items)
    taken = store.intake._take_chunk(token, chunk, 0, before(store))()[:2]
    assert all(is_folded(store, one) for one in chunk.ids)
    return taken


def write(store: Store, run: Run, *items: bytes) -> bool:
    """Write the events of items folded; return whether that was done, which it is not if one of them is there."""
    strings = store.intake._chunks.strings(chunk_of(store, run, *items), before(store).at)
    return bool(store.client.execute_command(WRITE, *strings))


def leave_strays(store: Store, run: Run, *items: bytes) -> None:
    """Stage items and write their events folded, as a drain does that is interrupted before they have their places."""
    stage(store, *items)
    assert store.intake._fold(chunk_of(store, run, *items), before(store).at)


def place(store: Store, token: int, run: Run, *items: bytes, staged: int | None = None, read: int = 0) -> list[Any]:
    """Write the events of items folded, if none of them is there, and do `give_places`."""
    write(store, run, *items)
    return give_places(store, token, run, *items, staged=staged, read=read)


def give_places(
    store: Store, token: int, run: Run, *items: bytes, staged: int | None = None, read: int = 0
) -> list[Any]:
    """Give the folded events of items their places; return what the script does.

    So many items were `staged` when the chunk was read, by default those that are; so many were `read` behind it.
    """
    left = store.client.llen(store.keys.processing) if staged is None else staged
    keys, args = store.intake._chunks.places(chunk_of(store, run, *items), left)
    reading = [read, CHUNK_ITEMS if read <= CHUNK_ITEMS else 0, CHUNK_BYTES, store.intake._longest]
    return PLACING(store.client, keys, [token, *reading, *args])


def fold_in_place(store: Store, *event_ids: str) -> None:
    """Replace the hashes of pending events, none of which was ever claimed, by what they are folded."""
    for one in event_ids:
        key = store.keys.event(one)
        kept: Any = store.client.hgetall(key)
        assert set(kept) == {b"wallet", b"item", b"score", b"taken_at"}, kept
        store.client.delete(key)
        store.client.set(key, fold(one, kept[b"taken_at"], kept[b"wallet"].decode(), kept[b"item"]))


def is_folded(store: Store, event_id: str) -> bool:
    """Return whether the key of an event holds a string."""
    return store.client.type(store.keys.event(event_id)) == b"string"


def folded_events(store: Store) -> tuple[set[str], set[str]]:
    """Return the events whose keys hold strings, and those of them that have no place."""
    family = store.keys.event("")
    ids = [one.decode().removeprefix(family) for one in store.client.scan_iter(f"{family}*", count=1000)]
    found = {one for one in ids if is_folded(store, one)}
    return found, {one for one in found if one not in looks.pending(store, type_of(one))}


def drain_by(store: Store, client: Any, token: int, run: Run, *, fold: bool = True) -> list[int]:
    """Drain with a client; return what was taken chunk by chunk."""
    other: Any = SimpleNamespace(client=client, keys=store.keys, settings=store.settings)
    return list(Intake(other).drain(token, run.id, steps.priorities(store), fold=fold))
