"""The archive: surplus run records and dead letters are written to disk before they are removed from Redis.

There is one file of JSON lines per kind and month. RLM only appends to it; the operator may move or delete it. A crash
between writing a line and removing it from Redis repeats the line, so identify records by `run_id`, letters by `id`.
"""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain
from pathlib import Path

import msgspec

from rlm.core.clock import isoformat
from rlm.core.errors import ArchiveError, UnsafeError
from rlm.core.files import CAREFUL, FILE_MODE, claim_directory

_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


class ArchiveKind(StrEnum):
    """What is archived; also the first part of the file's name."""

    RECORDS = "records"
    FAILED = "failed"


class Archive:
    """The files in one directory, which is created with the first line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def append(self, kind: ArchiveKind, entries: Sequence[bytes], now: float) -> Path:
        """Append `entries` to the file of `kind` for the month of `now` (seconds since 1970); return its path.

        On return all entries are on disk. After an error none is, or some are and may be written again.

        Raises:
            ArchiveError: the disk refused, or the directory cannot be used.
        """
        return self._append(kind, [b"".join(map(_line, entries))], now)

    def append_giant(self, kind: ArchiveKind, pieces: Iterable[bytes], now: float) -> Path:
        """Append one entry that comes in pieces, as base64 and in constant memory; otherwise like `append`.

        The length of each piece except the last is a multiple of 3 bytes. If `pieces` raises, the entry is removed.
        """
        encoded = (base64.b64encode(piece) for piece in pieces)
        return self._append(kind, chain([b'{"base64":"'], encoded, [b'"}\n']), now)

    def _append(self, kind: ArchiveKind, parts: Iterable[bytes], now: float) -> Path:
        path = self.directory / f"{kind}-{isoformat(now)[:7]}.jsonl"
        try:
            claim_directory(self.directory)
            with _opened(path) as file:
                _append(file, parts)
            _sync(self.directory)  # makes the name of a new file durable
        except (OSError, UnsafeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ArchiveError(f"the archive {str(path)!r} cannot be written ({why})") from error
        return path

    def files(self, kind: ArchiveKind | None = None) -> list[Path]:
        """Return the non-empty files of one kind, or of all kinds, by kind and then oldest first.

        A full disk may leave an empty file.

        Raises:
            OSError: the directory cannot be read.
        """
        kinds = [kind] if kind else list(ArchiveKind)
        found = (path for one in kinds for path in sorted(self.directory.glob(f"{one}-*.jsonl")))
        return [path for path in found if path.stat().st_size]

    def hint(self, kind: ArchiveKind) -> str:
        """Return a sentence, after a space, about where older entries are; empty if this host has none."""
        try:
            found = self.files(kind)
        except OSError:
            return ""
        return f" Older ones are in {self.directory / f'{kind}-*.jsonl'}." if found else ""


def _line(entry: bytes) -> bytes:
    """Return an entry as one line. JSON has line breaks only between its parts, so spaces may replace them."""
    try:
        msgspec.json.decode(entry)
    except (ValueError, RecursionError):  # other programs may push onto the list
        entry = msgspec.json.encode({"base64": base64.b64encode(entry).decode()})
    return entry.translate(_LINE_BREAKS) + b"\n"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file for exclusive appending, because a deposed conductor that does not know it yet may also write."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | CAREFUL, FILE_MODE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
    finally:
        os.close(file)


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | CAREFUL)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _append(file: int, parts: Iterable[bytes]) -> None:
    """Append and sync. If the disk or Redis fails, the file is truncated to its old size."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":  # a crash left an incomplete line; start a new one
        parts = chain([b"\n"], parts)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except BaseException:
        os.ftruncate(file, size)
        raise
