"""How long something took, without the time in which the machine had no processor for it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


class Stopwatch:
    """Runs from its making. `seconds` has passed; `busy` are those without what waiting for a processor explains.

    A bound from above is for `busy`: on a machine with nothing else to do it is the same. One from below is for
    `seconds`. Only Linux tells how long a thread waited; elsewhere both are the same.
    """

    def __init__(self) -> None:
        self._began, self._held_up = time.monotonic(), _held_up()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def busy(self) -> float:
        return self.seconds - max(0.0, _held_up() - self._held_up)


def _held_up() -> float:
    """Return how long the living threads of this process have waited for a processor so far, seconds."""
    waited = 0
    for one in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended
            waited += int(one.read_text().split()[1])
    return waited / 1e9
