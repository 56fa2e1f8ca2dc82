"""Dead letters in Redis: read and removed; and archived, what is more than Redis keeps.

The archive is one file of JSON lines a month. RLM only appends to it; the operator may move or delete it. A crash
between writing a line and removing it from Redis repeats the line, so identify letters by `id`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import structs

from rlm.core.clock import isoformat, system_clock
from rlm.core.errors import ArchiveError, UnsafeError
from rlm.core.files import CAREFUL, FILE_MODE, claim_directory
from rlm.ledger.scripts import PAGE, Access, Part

#: Dead letters that Redis keeps; the oldest beyond them are moved to the archive.
MOST_LETTERS = 100_000
#: Pause after the disk refused, seconds; each failure is logged.
REFUSED_SECONDS = 30.0

log = logging.getLogger(__name__)


class Order(msgspec.Struct):
    """A letter to be removed, as `remove_letter` in the scripts takes it; with no `item` none goes back to its list."""

    letter: bytes
    retried: list[tuple[str, str, int]] = []
    item: bytes | None = None
    rest: bytes = b""
    dropped: str = ""


class Letters(Part):
    """The list of dead letters, newest first; other programs may push there as well.

    It is kept within `MOST_LETTERS`, also while letters are written, by `archive_some`.
    """

    def __init__(self, store: Access) -> None:
        super().__init__(store)
        self._refused_until, self._trouble = float("-inf"), ""

    def count(self) -> int:
        """Return how many there are."""
        return int(self._ask("LLEN", self._keys.failed))

    def all(self) -> Iterator[bytes]:
        """Yield them, newest first."""
        return chain.from_iterable(self._pages(self._keys.failed))

    def oldest(self, skip: int, most: int) -> list[bytes]:
        """Return up to `most` entries after the `skip` oldest, oldest first; new letters do not shift them.

        They are about a megabyte at the most.
        """
        return self._oldest(self._keys.failed, skip, most)

    def remove(self, orders: Sequence[Order]) -> list[int]:
        """Carry out orders; return of each 1 if it is done, 0 if the letter is gone, -1 if its event is under way."""
        calls = []
        for order in orders:
            lists = {"failed": self._keys.failed, "audit": "" if order.item is None else self._keys.events}
            calls.append(lists | structs.asdict(order) | {"item": order.item or b""})
        return self._run_each("remove_letter", calls)

    def trim(self, letters: Sequence[bytes]) -> None:
        """Remove these letters, which are archived; their events stay known as failed."""
        self._batch(("LREM", self._keys.failed, -1, raw) for raw in letters)

    def archive_some(self, number: int | None = None) -> bool:
        """Move some of those beyond the bound to the archive; return whether there may be more.

        After the disk refused, none is moved for a while. There are `number`, which is asked for unless it is given.
        """
        more = 0 if self.trouble else (self.count() if number is None else number) - MOST_LETTERS
        if more <= 0:
            return False
        surplus = self.oldest(0, min(PAGE, more))
        try:
            archive(self._store.settings.archive_dir, surplus, system_clock.now())
        except ArchiveError as error:
            self._refused_until, self._trouble = system_clock.monotonic() + REFUSED_SECONDS, str(error)
            message = "Dead letters stay in Redis, and no more items are taken, because %s; trying again in %.0f s"
            log.warning(message, error, REFUSED_SECONDS, extra={"action": "archive"})
            return False
        self.trim(surplus)
        return True

    @property
    def trouble(self) -> str:
        """Why the disk has refused lately, empty if it has not. Until it takes the letters, nothing may make more."""
        return self._trouble if system_clock.monotonic() < self._refused_until else ""


def archive(directory: Path, entries: Sequence[bytes], now: float) -> Path:
    """Append `entries` to the file in `directory` for the month of `now` (seconds since 1970); return its path.

    On return all are on disk. After an error none may be, or some; they are written again.

    Raises:
        ArchiveError: the disk refused, or the directory cannot be used.
    """
    path = directory / f"failed-{isoformat(now)[:7]}.jsonl"
    # JSON has line breaks only between its parts, so spaces may replace them.
    lines = b"".join(entry.translate(bytes.maketrans(b"\r\n", b"  ")) + b"\n" for entry in entries)
    try:
        claim_directory(directory)
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | CAREFUL, FILE_MODE)
        with os.fdopen(opened, "a+b") as file:
            end = file.tell()
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":  # a crash cut the last line short
                lines = b"\n" + lines
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        opened = os.open(directory, os.O_RDONLY | CAREFUL)
        try:
            os.fsync(opened)  # makes the name of a new file durable
        finally:
            os.close(opened)
    except (OSError, UnsafeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ArchiveError(f"the archive {str(path)!r} cannot be written ({why})") from error
    return path
