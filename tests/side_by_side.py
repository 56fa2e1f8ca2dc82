"""Tests run side by side, but those marked `alone` run alone, because they measure what a machine does."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SideBySide:
    """Shared by the processes of one test session through two files in `directory`: many at once, or one alone."""

    def __init__(self, directory: Path) -> None:
        self.gate, self.room = ((directory / name).open("w") for name in ("gate", "room"))

    @contextmanager
    def take(self, *, alone: bool) -> Iterator[None]:
        """Wait for a turn. A test that wants to be alone keeps the gate meanwhile, so that no other enters earlier."""
        fcntl.flock(self.gate, fcntl.LOCK_EX)
        fcntl.flock(self.room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self.gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self.room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Take no more turns."""
        self.gate.close()
        self.room.close()
