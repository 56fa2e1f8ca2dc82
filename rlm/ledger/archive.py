"""The archive: run records and dead letters that are more than Redis is to keep, on disk before they leave it.

A file a kind and month, of JSON lines, appended to and never read by RLM. It is the operator's to move or delete. A
crash between writing a line and removing it from Redis repeats the line: tell records by `run_id`, letters by `id`.
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
from rlm.core.files import open_own, opened_directory

_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


class ArchiveKind(StrEnum):
    """What is archived; the first part of a file's name."""

    RECORDS = "records"
    FAILED = "failed"


class Archive:
    """The files in one directory, which is made when the first line is written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def append(self, kind: ArchiveKind, entries: Sequence[bytes], now: float) -> Path:
        """Append `entries` to the file of `kind` and of the month of `now` (seconds since 1970); return it.

        When this returns they are on disk. When it raises, nothing of them is, or some that may be written again.

        Raises:
            ArchiveError: the disk refused, or the directory cannot be used.
        """
        return self._append(kind, [b"".join(map(_line, entries))], now)

    def append_giant(self, kind: ArchiveKind, pieces: Iterable[bytes], now: float) -> Path:
        """Append one entry that comes in pieces, as base64 and in constant memory; otherwise like `append`.

        All pieces but the last have a multiple of 3 bytes. What was written is cut off again if `pieces` raises.
        """
        encoded = (base64.b64encode(piece) for piece in pieces)
        return self._append(kind, chain([b'{"base64":"'], encoded, [b'"}\n']), now)

    def _append(self, kind: ArchiveKind, parts: Iterable[bytes], now: float) -> Path:
        path = self.directory / f"{kind}-{isoformat(now)[:7]}.jsonl"
        try:
            with opened_directory(self.directory) as directory:
                with _opened(directory, path.name) as file:
                    _append(file, parts)
                os.fsync(directory)  # the name of a new file
        except (OSError, UnsafeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ArchiveError(f"the archive {str(path)!r} cannot be written ({why})") from error
        return path

    def files(self, kind: ArchiveKind | None = None) -> list[Path]:
        """Return the files of one kind, or of all, oldest first by kind; none if nothing was archived yet.

        A full disk leaves an empty file, which counts for none.

        Raises:
            OSError: the directory may not be read.
        """
        kinds = [kind] if kind else list(ArchiveKind)
        found = (path for one in kinds for path in sorted(self.directory.glob(f"{one}-*.jsonl")))
        return [path for path in found if path.stat().st_size]

    def hint(self, kind: ArchiveKind) -> str:
        """Return a sentence about where older ones are, after a space; empty if this host has none."""
        try:
            found = self.files(kind)
        except OSError:
            return ""
        return f" Older ones are in {self.directory / f'{kind}-*.jsonl'}." if found else ""


def _line(entry: bytes) -> bytes:
    """Write an entry as one line. Line breaks in JSON stand between its parts only, so a space may replace them."""
    try:
        msgspec.json.decode(entry)
    except (ValueError, RecursionError):  # others may push onto the list, too
        entry = msgspec.json.encode({"base64": base64.b64encode(entry).decode()})
    return entry.translate(_LINE_BREAKS) + b"\n"


@contextmanager
def _opened(directory: int, name: str) -> Iterator[int]:
    """Open a file to append to, alone: a deposed conductor that does not know it yet may write as well."""
    file = open_own(directory, name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
    finally:
        os.close(file)


def _append(file: int, parts: Iterable[bytes]) -> None:
    """Append and sync. If the disk or Redis fails meanwhile, what was written of `parts` is cut off again."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":  # a crash cut the last line short: it stays by itself
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
