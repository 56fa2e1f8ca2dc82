"""The audit list: push lines onto it, check lines, count items, clear it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from rlm.core.event import BadItemError, decode_item
from rlm.core.text import counted, cut, safe_line
from rlm.ledger.keys import longest_item
from rlm.settings.faults import close_match, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rlm.ledger import Store
    from rlm.settings import Settings

#: Most items in one push, and bytes after which a push is due.
PUSH_ITEMS = 500
PUSH_BYTES = 1_000_000
#: Lines and types named for one fault, the first ones.
MOST_NAMED = 5
#: Columns of an unknown type's name.
LONGEST_NAME = 60


@dataclass(slots=True)
class Faulty:
    """Items with the same fault: their number, the first lines, and the unknown types if that is the fault."""

    items: int = 0
    lines: list[int] = field(default_factory=list)
    types: dict[str, None] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.types:
            more = ", ..." if len(self.types) == MOST_NAMED else ""
            return f"({', '.join(cut(safe_line(one), LONGEST_NAME) for one in self.types)}{more})"
        more = f" and {self.items - len(self.lines):,} more" if self.items > len(self.lines) else ""
        return f"({'line' if self.items == 1 else 'lines'} {', '.join(map(str, self.lines))}{more})"


@dataclass(slots=True)
class Pushed:
    """How many items were pushed so far, and how many of the lines read will become dead letters.

    `faults` has those by reason; `read` are all lines with an item, and of these `refused` were too long to push.
    """

    items: int = 0
    bad: int = 0
    read: int = 0
    refused: int = 0
    faults: dict[str, Faulty] = field(default_factory=dict)

    def note(self, line: int, flaws: Sequence[ItemFlaw]) -> None:
        """Count an item that will become a dead letter by its first flaw."""
        self.bad += 1
        faulty = self.faults.setdefault(flaws[0].reason, Faulty())
        faulty.items += 1
        if len(faulty.lines) < MOST_NAMED:
            faulty.lines.append(line)
        for flaw in flaws:
            if flaw.type_name and len(faulty.types) < MOST_NAMED:
                faulty.types[flaw.type_name] = None

    def summary(self, *, would: bool = False) -> str:
        """Return how many of the items read will, or would, become dead letters, by reason, the most frequent first."""
        by_number = sorted(self.faults.items(), key=lambda one: -one[1].items)
        parts = ", ".join(f"{faulty.items:,} {reason} {faulty}" for reason, faulty in by_number)
        letters = "a dead letter" if self.bad == 1 else "dead letters"
        verb = "would" if would else "will"
        return f"{self.bad:,} of {counted(self.read, 'item')} {verb} become {letters}: {parts}"


class ItemFlaw(NamedTuple):
    """Why an item, or its event of the type named, will become a dead letter."""

    reason: str
    detail: str
    type_name: str = ""


def read_lines(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """Yield the lines of a file in constant memory; a line of more than `longest` bytes is cut to `longest` + 1."""
    while line := file.readline(longest + 1):
        yield line
        while len(line) > longest and not line.endswith(b"\n"):
            line = file.readline(longest + 1) or b"\n"


def push_lines(store: Store, lines: Iterable[bytes], pushed: Pushed) -> Iterator[str]:
    """Push each non-empty line unchanged, the first as the oldest, in constant memory; count in `pushed`.

    Yields a warning for each line that will become a dead letter, or is too long even for that.

    Raises:
        StoreError: Redis failed; whether the items after `pushed.items` were pushed is not known.
    """
    chunk: list[bytes] = []
    size = 0
    for item, warning in check_lines(store.settings, lines, pushed):
        if warning:
            yield warning
        if not item:
            continue
        chunk.append(item)
        size += len(item)
        if len(chunk) == PUSH_ITEMS or size >= PUSH_BYTES:
            _push(store, chunk, pushed)
            chunk, size = [], 0
    if chunk:
        _push(store, chunk, pushed)


def check_lines(settings: Settings, lines: Iterable[bytes], pushed: Pushed) -> Iterator[tuple[bytes, str]]:
    """Yield the item of each non-empty line, and why it will become a dead letter, if it will; count both.

    A line that is too long even for a dead letter must not be pushed; its item is empty.
    """
    longest = longest_item(settings.queue.max_item_bytes)
    for number, line in enumerate(lines, start=1):
        item = line.rstrip(b"\r\n")
        if not item.strip():
            continue
        pushed.read += 1
        if len(item) > longest:
            pushed.refused += 1
            yield b"", f"line {number}: not pushed, for it has more than {longest:,} bytes"
            continue
        flaws = flaws_of(item, settings)
        if flaws:
            pushed.note(number, flaws)
        yield item, f"line {number}: {_said(flaws[0], settings.types)}" if flaws else ""


def _push(store: Store, chunk: list[bytes], pushed: Pushed) -> None:
    store.intake.push(chunk)
    pushed.items += len(chunk)


def fault_of(item: bytes, settings: Settings) -> str:
    """Return why an item, or one of its events, will become a dead letter; empty if none will."""
    flaws = flaws_of(item, settings)
    return _said(flaws[0], settings.types) if flaws else ""


def flaws_of(item: bytes, settings: Settings) -> list[ItemFlaw]:
    """Return why an item will become a dead letter, or which of its types are unknown; empty if all is well."""
    try:
        types = decode_item(item, settings.queue.max_item_bytes).types
    except BadItemError as error:
        return [ItemFlaw(error.reason, str(error))]
    unknown = [(name, BadItemError.unknown_type(name)) for name in types if name not in settings.types]
    return [ItemFlaw(error.reason, str(error), name) for name, error in unknown]


def _said(flaw: ItemFlaw, known: Iterable[str]) -> str:
    near = did_you_mean(close_match(flaw.type_name, known)) if flaw.type_name else ""
    return f"{flaw.reason}: {flaw.detail}{near}"


def waiting_items(store: Store) -> int:
    """Count the items on the audit list."""
    return store.intake.lengths()[1]


def clear_items(store: Store) -> int:
    """Remove all items from the audit list, in one step; return how many there were."""
    return store.intake.clear()
