"""A bound on what is told of one cause: once a minute and process, and how many were left out meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from rlm.core.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import Hashable

    from rlm.core.clock import Clock

#: The causes that are remembered; where there are more, the oldest is forgotten.
MOST_CAUSES: Final = 1000


class Bounded:
    """Lets one through for each cause in a time; used by several threads."""

    def __init__(self, seconds: float, clock: Clock = system_clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[Hashable, float] = {}
        self._left_out: dict[Hashable, int] = {}

    def admit(self, cause: Hashable) -> int | None:
        """Return how many of this cause were left out since the last that was let through; None to leave it out."""
        with self._lock:
            now = self._clock.monotonic()
            if now - self._last.get(cause, float("-inf")) < self._seconds:
                self._left_out[cause] = self._left_out.get(cause, 0) + 1
                return None
            self._last.pop(cause, None)  # so that it becomes the youngest
            self._last[cause] = now
            if len(self._last) > MOST_CAUSES:
                oldest = next(iter(self._last))
                del self._last[oldest]
                self._left_out.pop(oldest, None)
            return self._left_out.pop(cause, 0)
