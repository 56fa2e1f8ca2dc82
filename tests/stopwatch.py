"""Measures durations, without the time in which the machine had no free processor."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


class Stopwatch:
    """Runs from its creation. `seconds` have passed; `busy` excludes waiting for a processor.

    It excludes the waiting of this process, and of the `others` whose work is measured, by pid. Use `busy` for upper
    bounds: on an idle machine it equals `seconds`. Use `seconds` for lower bounds. Only Linux records how long a thread
    waited; on other systems both are equal.
    """

    def __init__(self, *others: int) -> None:
        self.began = time.monotonic()
        self.before = {pid: _held_up(pid) for pid in (os.getpid(), *others)}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def busy(self) -> float:
        # The waiting time of a thread is lost when it ends.
        return self.seconds - sum(max(0.0, _held_up(pid) - before) for pid, before in self.before.items())


def _held_up(pid: int) -> float:
    """Return how long the living threads of a process have waited for a processor so far, seconds."""
    waited = 0
    for one in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended
            waited += int(one.read_text().split()[1])
    return waited / 1e9
