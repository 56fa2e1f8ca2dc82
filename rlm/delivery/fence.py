"""The fence of a worker: once the worker has been unheard of for a while, it has no call under way any more.

A worker announces itself in Redis, and its entry lives for `HEARTBEAT_TTL_SECONDS`. The fence shuts earlier: it cuts
the calls under way, and allows none until the worker has announced itself again. So when a worker's entry is gone,
others may send its events at once, even if the leases are long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from rlm.core.clock import system_clock
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS

#: A worker is fenced this long after it began its last successful announcement, seconds. Calls sent just before have
#: 2 s to arrive until its entry ends.
FENCE_SECONDS = HEARTBEAT_TTL_SECONDS - 2.0
#: No call begins in this last time before the fence shuts, seconds; most calls take less, and would be cut.
CLOSING_SECONDS = 1.0
#: How often a fenced worker checks for calls under way, seconds.
_LOOK_SECONDS = 0.1


class Fence:
    """Shut until the worker has announced itself, and again `seconds` after that announcement began unless renewed."""

    def __init__(self, cut: Callable[[], None] = lambda: None, seconds: float = FENCE_SECONDS) -> None:
        """Call `cut` when the fence shuts, to end the calls under way."""
        self._cut = cut
        self._seconds = seconds
        self._announced_at = float("-inf")
        #: Events claimed before this moment may belong to another worker by now, monotonic seconds.
        self._whole_since = float("inf")
        self._stopped, self._needed = threading.Event(), threading.Event()
        self._needed.set()

    def start(self) -> None:
        """Start watching."""
        threading.Thread(target=self._watch, name="fence", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self.watch()

    def relax(self) -> None:
        """Sleep until `watch` is called, because no call is under way."""
        self._needed.clear()

    def watch(self) -> None:
        """Cut calls from now on; call this before one begins."""
        self._needed.set()

    @property
    def shut(self) -> bool:
        """Whether no call may be sent."""
        return self._left_seconds() <= 0

    @property
    def closing(self) -> bool:
        """Whether it is shut, or soon will be unless the worker is heard from."""
        return self._left_seconds() <= CLOSING_SECONDS

    def announced(self, began: float) -> None:
        """Record that the worker announced itself; `began` is when it began to, by `system_clock.boottime()`."""
        if self.shut:
            self._whole_since = system_clock.monotonic()
        self._announced_at = began

    def admits(self, since: float) -> bool:
        """Return whether an event claimed at `since` (monotonic seconds) may be sent."""
        return not self.shut and since >= self._whole_since

    def _left_seconds(self) -> float:
        # A suspended host is not heard from either, so its sleep counts.
        return self._announced_at + self._seconds - system_clock.boottime()

    def _watch(self) -> None:
        while not self._stopped.wait(max(_LOOK_SECONDS, min(self._left_seconds(), self._seconds))):
            if self.shut:
                self._cut()  # repeatedly, because a call may have left at the same moment
            self._needed.wait()


class NoFence(Fence):
    """Allows every call, for lanes that belong to no worker."""

    def admits(self, since: float) -> bool:  # noqa: ARG002  # not needed
        """Return True."""
        return True

    def _left_seconds(self) -> float:
        return float("inf")
