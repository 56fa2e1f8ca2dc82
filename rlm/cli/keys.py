"""The keyboard of a view that goes on: `q` ends it, and what else is typed is neither shown nor left for the shell."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What ends a view.
QUIT = frozenset(b"qQ")


class Keyboard:
    """What is typed while a view goes on; of a stream that is no terminal nothing is."""

    def __init__(self, file: int | None) -> None:
        self._file = file

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until somebody wants to quit; return whether somebody does."""
        if self._file is None:
            system_clock.sleep(seconds)
            return False
        until = system_clock.monotonic() + seconds
        while (left := until - system_clock.monotonic()) > 0:
            ready, _, _ = select.select([self._file], [], [], left)
            typed = _read(self._file) if ready else None
            if typed == b"":  # the terminal is gone, and would be ready for ever
                self._file = None
                return False
            if typed and QUIT & set(typed):
                return True
        return False


def _read(file: int) -> bytes:
    try:
        return os.read(file, 1024)
    except OSError:
        return b""


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Read the keyboard key by key while the block runs; only in the foreground, for a shell owns it otherwise."""
    file = _terminal()
    if file is None:
        yield Keyboard(None)
        return
    before = termios.tcgetattr(file)
    tty.setcbreak(file)
    try:
        yield Keyboard(file)
    finally:
        termios.tcsetattr(file, termios.TCSAFLUSH, before)


def _terminal() -> int | None:
    """Return the descriptor of the terminal that types into this process, None where there is none."""
    try:
        file = sys.stdin.fileno()
        return file if os.isatty(file) and os.tcgetpgrp(file) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):  # closed, or replaced by something else
        return None
