"""A copy of this process that waits to be something, for `rlm start --wait`, whose supervisor it becomes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Self

from rlm.processes.fork import fork
from rlm.processes.signals import GRACEFUL, unblock

#: Of prctl(2), Linux: send this process a signal when its parent dies.
_PR_SET_PDEATHSIG = 1


class Spare:
    """A copy of this process that waits to be `target()`, as a member of a `ProcessGroup`; used as a context manager.

    Make it before this process has threads and connections. It leads a session of its own, so that Ctrl-C is for this
    process, and gets TERM when this process dies. The `target` is given what waits until it is told to begin, and
    returns whether it is: it does beforehand what can be done. It writes to `stdout` if it is `piped`, else to stderr.
    """

    def __init__(self, target: Callable[[Callable[[], bool]], None], *, piped: bool = False) -> None:
        self._begun = False
        self._returncode: int | None = None
        word, self._word = os.pipe()
        reader, output = os.pipe() if piped else (None, 2)
        signal.pthread_sigmask(signal.SIG_BLOCK, GRACEFUL)  # one that comes before it listens waits until then
        try:
            self.pid = fork(self._be, os.getpid(), word, output, target)
        finally:
            unblock(GRACEFUL)
            os.close(word)
            if piped:
                os.close(output)
        self.stdout: IO[bytes] | None = os.fdopen(reader, "rb") if reader is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._word)
        if not self._begun and self.poll() is None:
            self._reap(0)

    def begin(self) -> None:
        """Make it what it is for. It lets signals through once it listens to them."""
        self._begun = True
        with suppress(BrokenPipeError):  # it has died, as `poll` says
            os.write(self._word, b"!")

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        if self._returncode is None:
            self._reap(os.WNOHANG)
        return self._returncode

    def _reap(self, how: int) -> None:
        pid, status = os.waitpid(self.pid, how)
        self._returncode = os.waitstatus_to_exitcode(status) if pid else None

    def send_signal(self, sig: int) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def _be(self, parent: int, word: int, output: int, target: Callable[[Callable[[], bool]], None]) -> None:
        os.setsid()
        os.close(self._word)
        for stream, file in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
            os.dup2(file, stream)
        target(lambda: die_with(parent) and bool(os.read(word, 1)))


def die_with(parent: int) -> bool:
    """Arrange for this process to get TERM when its `parent` dies; return False if that has happened."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  # nobody else needs it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent
