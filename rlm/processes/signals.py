"""Signals for a process loop: a handler only counts and wakes the loop; the loop decides."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType
    from typing import Self

#: Signals that ask for a graceful stop; a second one, or QUIT, asks for an immediate one. A terminal that closes often
#: sends HUP twice, so HUP never counts as a second.
GRACEFUL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
IMMEDIATE = (signal.SIGQUIT,)


class Wakeup:
    """A pipe a loop selects on: `wake` from any thread or handler, `drain` in the loop."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def fileno(self) -> int:
        """Return the end to select on."""
        return self._reader

    def wake(self) -> None:
        """Make the loop's select return. Safe in a signal handler."""
        try:
            os.write(self._writer, b"\0")
        except (BlockingIOError, OSError):
            return  # full: the loop will wake anyway; closed: there is no loop

    def drain(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while os.read(self._reader, 4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends."""
        ends = self._reader, self._writer
        self._reader = self._writer = -1  # first: a late wake-up must not write to a reused number
        for end in ends:
            os.close(end)


class StopSignals:
    """Counts the signals that ask this process to stop, and wakes its loop. Used as a context manager.

    `graceful` is true from the first TERM, INT or HUP on, `immediate` from the second, or from a QUIT.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._received = 0
        self._previous: dict[int, object] = {}

    @property
    def graceful(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._received > 0

    @property
    def immediate(self) -> bool:
        """Whether it has been asked to stop at once."""
        return self._received > 1

    def _count(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            self._received = max(self._received, 1)
        else:
            self._received += 2 if signum in IMMEDIATE else 1
        self._wakeup.wake()

    def __enter__(self) -> Self:
        for signum in (*GRACEFUL, *IMMEDIATE):
            if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:  # nohup has it ignored
                self._previous[signum] = signal.signal(signum, self._count)
        return self

    def __exit__(self, *_exc: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]  # whatever was there goes back


def unblock(signals: Iterable[signal.Signals]) -> None:
    """Let signals through that were blocked while this process was being born."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
