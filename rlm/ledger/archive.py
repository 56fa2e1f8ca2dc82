"""The archive: surplus dead letters are on disk before they are removed from Redis.

There is one file of JSON lines per month. RLM only appends to it; the operator may move or delete it. A crash between
writing a line and removing it from Redis repeats the line, so identify letters by `id`.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rlm.core.clock import isoformat, system_clock
from rlm.core.errors import ArchiveError, UnsafeError
from rlm.core.files import CAREFUL, FILE_MODE, claim_directory
from rlm.ledger.letters import Letters
from rlm.ledger.scripts import Access

#: Dead letters that Redis keeps; the oldest beyond them are moved to the archive.
MOST_LETTERS = 100_000
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")
#: Pause after the disk refused, seconds; each failure is logged.
REFUSED_SECONDS = 30.0

log = logging.getLogger(__name__)


class Archive:
    """The files in one directory, which is created with the first line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def append(self, entries: Sequence[bytes], now: float) -> Path:
        """Append `entries` to the file for the month of `now` (seconds since 1970); return its path.

        On return all entries are on disk. After an error none is, or all are and may be written again.

        Raises:
            ArchiveError: the disk refused, or the directory cannot be used.
        """
        path = self.directory / f"failed-{isoformat(now)[:7]}.jsonl"
        try:
            claim_directory(self.directory)
            with _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
                _append(file, b"".join(map(_line, entries)))
            with _opened(self.directory, os.O_RDONLY) as directory:
                os.fsync(directory)  # makes the name of a new file durable
        except (OSError, UnsafeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ArchiveError(f"the archive {str(path)!r} cannot be written ({why})") from error
        return path

    def hint(self) -> str:
        """Return a sentence, after a space, about where older letters are; empty if this host has none."""
        files = self.directory / "failed-*.jsonl"
        return f" Older ones are in {files}." if any(self.directory.glob(files.name)) else ""


class Archivist:
    """Keeps the list of dead letters within `MOST_LETTERS`, also while letters are written.

    The oldest ones beyond it are moved to the archive, a chunk at a time.
    """

    def __init__(self, store: Access) -> None:
        self._letters = Letters(store)
        self._archive = Archive(store.settings.archive_dir)
        self._not_before = float("-inf")
        self._trouble = ""

    def step(self) -> bool:
        """Move a chunk; return whether there may be more. After the disk refused, none is moved for a while."""
        if self.is_refused or not (surplus := self._letters.surplus(MOST_LETTERS)):
            return False
        try:
            self._archive.append(surplus, system_clock.now())
        except ArchiveError as error:
            self._not_before = system_clock.monotonic() + REFUSED_SECONDS
            message = "Dead letters stay in Redis, and no more items are taken, because %s; trying again in %.0f s"
            log.warning(message, error, REFUSED_SECONDS, extra={"action": "archive"})
            self._trouble = str(error)
            return False
        self._letters.trim(surplus)
        return True

    @property
    def trouble(self) -> str:
        """Why the disk has refused lately; empty if it has not."""
        return self._trouble if self.is_refused else ""

    @property
    def is_refused(self) -> bool:
        """Whether the disk has refused lately: until it takes the letters, nothing may make more of them."""
        return system_clock.monotonic() < self._not_before


def _line(entry: bytes) -> bytes:
    """Return an entry as one line. JSON has line breaks only between its parts, so spaces may replace them."""
    try:
        msgspec.json.decode(entry)
    except (ValueError, RecursionError):  # other programs may push onto the list
        entry = msgspec.json.encode({"base64": base64.b64encode(entry).decode()})
    return entry.translate(_LINE_BREAKS) + b"\n"


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags | CAREFUL, FILE_MODE)
    try:
        yield file
    finally:
        os.close(file)


def _append(file: int, lines: bytes) -> None:
    """Append and sync. If the disk fails, the file is truncated to its old size."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":  # a crash left an incomplete line; start a new one
        lines = b"\n" + lines
    rest = memoryview(lines)
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except BaseException:
        os.ftruncate(file, size)
        raise
