"""How long something took, without the time in which the machine had no processor for it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


class Stopwatch:
    """Runs from its making. `seconds` have passed; `busy` are those without what waiting for a processor explains.

    That is the waiting of this process, and of the `others` whose doing is measured, by their process ids. A bound from
    above is for `busy`: on a machine with nothing else to do it is the same. One from below is for `seconds`. Only
    Linux says how long a thread waited; elsewhere both are the same.
    """

    def __init__(self, *others: int) -> None:
        self._began = time.monotonic()
        self._before = {pid: _held_up(pid) for pid in (os.getpid(), *others)}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def busy(self) -> float:
        # What the threads of a process waited goes with them when they end.
        return self.seconds - sum(max(0.0, _held_up(pid) - before) for pid, before in self._before.items())


def _held_up(pid: int) -> float:
    """Return how long the living threads of a process have waited for a processor so far, seconds."""
    waited = 0
    for one in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended
            waited += int(one.read_text().split()[1])
    return waited / 1e9
