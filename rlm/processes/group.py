"""A group of child processes that end together: for the demo, the test and `rlm start --wait`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rlm.core.clock import system_clock
from rlm.processes.signals import StopSignals

_POLL_SECONDS = 0.02


class ProcessGroup:
    """Commands of RLM that run beside this process.

    They are asked to end by TERM, after a second signal by QUIT, and killed once their `grace_seconds` are over.
    """

    def __init__(self, stop: StopSignals, grace_seconds: float) -> None:
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start `rlm COMMAND`, which stops when this process dies.

        It leads its own session, so Ctrl-C reaches only this process. `options` are those of `Popen`.
        """
        tied = [sys.executable, "-P", "-m", "rlm", "--tied-to", str(os.getpid()), *command]
        process = subprocess.Popen(tied, stdin=subprocess.DEVNULL, start_new_session=True, **options)  # noqa: S603
        self._running.append((command[0], process))
        return process

    def reap(self) -> list[tuple[str, int]]:
        """Return who has ended since the last call, and with which exit status."""
        polled = [(name, process, process.poll()) for name, process in self._running]
        self._running = [(name, process) for name, process, code in polled if code is None]
        return [(name, code) for name, _, code in polled if code is not None]

    def end(self) -> None:
        """Stop all processes, and wait until they have ended."""
        until, sent = system_clock.monotonic() + self._grace_seconds, None
        while self._running:
            signum = signal.SIGQUIT if self._stop.immediate else signal.SIGTERM
            signum = signal.SIGKILL if system_clock.monotonic() > until else signum
            if signum != sent:
                sent = signum
                for _, process in self._running:
                    process.send_signal(signum)
            system_clock.sleep(_POLL_SECONDS)
            self.reap()


def die_with(parent: int) -> bool:
    """Arrange for this process to get TERM when its `parent` dies; return False if that has happened."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    return os.getppid() == parent
