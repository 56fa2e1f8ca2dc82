"""What a person may do with the audit list: push lines onto it, see how long it is, clear it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from rlm.event import BadItemError, decode_item
from rlm.settings.faults import close_match, did_you_mean
from rlm.store.connect import translated
from rlm.store.sizes import longest_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rlm.settings import Settings
    from rlm.store import Store

#: Items pushed at once at the most, and bytes of items after which a push is due.
PUSH_ITEMS = 500
PUSH_BYTES = 1_000_000


@dataclass(slots=True)
class Pushed:
    """How many items were pushed so far; of the lines read, how many will be dead letters or were too long to push."""

    items: int = 0
    bad: int = 0
    refused: int = 0


def read_lines(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """Yield the lines of a file in constant memory; of one of more than `longest` bytes, its first `longest` + 1."""
    while line := file.readline(longest + 1):
        yield line
        while len(line) > longest and not line.endswith(b"\n"):
            line = file.readline(longest + 1) or b"\n"


def push_lines(store: Store, lines: Iterable[bytes], pushed: Pushed) -> Iterator[str]:
    """Push each line that is not empty as it is, the first as the oldest, in constant memory; count in `pushed`.

    Yields a warning for each line that will become a dead letter, or is too long even to be one, as it comes to it.

    Raises:
        StoreError: Redis failed; whether the items after `pushed.items` were pushed is not known.
    """
    chunk: list[bytes] = []
    size, longest = 0, longest_item(store.settings.queue.max_item_bytes)
    for number, line in enumerate(lines, start=1):
        item = line.rstrip(b"\r\n")
        if not item.strip():
            continue
        if len(item) > longest:
            pushed.refused += 1
            yield f"line {number}: not pushed, for it has more than {longest:,} bytes"
            continue
        if fault := fault_of(item, store.settings):
            pushed.bad += 1
            yield f"line {number}: {fault}"
        chunk.append(item)
        size += len(item)
        if len(chunk) == PUSH_ITEMS or size >= PUSH_BYTES:
            _push(store, chunk, pushed)
            chunk, size = [], 0
    if chunk:
        _push(store, chunk, pushed)


def _push(store: Store, chunk: list[bytes], pushed: Pushed) -> None:
    store.intake.push(chunk)
    pushed.items += len(chunk)


def fault_of(item: bytes, settings: Settings) -> str:
    """Say why an item will become a dead letter, at least for one of its types; empty where it will not."""
    try:
        types = decode_item(item, settings.queue.max_item_bytes).types
    except BadItemError as error:
        return f"{error.reason}: {error}"
    for name in types:
        if name not in settings.types:
            unknown = BadItemError.unknown_type(name)
            return f"{unknown.reason}: {unknown}{did_you_mean(close_match(name, settings.types))}"
    return ""


def waiting_items(store: Store) -> int:
    """Count the items on the audit list."""
    with translated(store.client):
        return store.client.llen(store.keys.events)


def clear_items(store: Store) -> int:
    """Remove all items from the audit list, in one step; return how many there were. Nothing else is touched."""
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=True)
        pipeline.llen(store.keys.events)
        pipeline.unlink(store.keys.events)
        return int(pipeline.execute()[0])
