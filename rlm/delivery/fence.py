"""The fence of a worker: once nobody can have heard of it for a while, nothing of it is under way any more.

A worker announces itself in Redis, and its entry lives for `HEARTBEAT_TTL_SECONDS`. The fence shuts sooner: it cuts the
calls under way, and lets none out until the worker has announced itself again. So what a host had in hand that is not
in the register any more may be sent by others at once, however long its leases are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from rlm.core.clock import system_clock
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS

#: How long after it began its last announcement that succeeded a worker is fenced, seconds. What it sent just before
#: has 2 s to arrive until its entry ends.
FENCE_SECONDS = HEARTBEAT_TTL_SECONDS - 2.0
#: How long before it shuts no call begins any more, seconds: most calls last no longer, and would be cut.
CLOSING_SECONDS = 1.0
#: How often a worker that is fenced looks at what is under way, seconds.
_LOOK_SECONDS = 0.1


class Fence:
    """Shut until the worker has announced itself, and again `seconds` after that began, unless it did once more."""

    def __init__(self, cut: Callable[[], None] = lambda: None, seconds: float = FENCE_SECONDS) -> None:
        """Call `cut` to end the calls under way, once the fence shuts."""
        self._cut = cut
        self._seconds = seconds
        self._announced_at = float("-inf")
        #: What was begun before this moment may be another worker's by now, monotonic seconds.
        self._whole_since = float("inf")
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="fence", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    @property
    def shut(self) -> bool:
        """Whether nothing may be sent."""
        return self._left_seconds() <= 0

    @property
    def closing(self) -> bool:
        """Whether it is shut, or soon will be unless the worker is heard of."""
        return self._left_seconds() <= CLOSING_SECONDS

    def announced(self, began: float) -> None:
        """Note that the worker has announced itself; `began` is when it began to, by `system_clock.boottime()`."""
        if self.shut:
            self._whole_since = system_clock.monotonic()
        self._announced_at = began

    def admits(self, since: float) -> bool:
        """Return whether a call may be sent whose event was claimed at `since` (monotonic seconds) or later."""
        return not self.shut and since >= self._whole_since

    def _left_seconds(self) -> float:
        # A suspended host is not heard of either, so the time that it slept counts.
        return self._announced_at + self._seconds - system_clock.boottime()

    def _watch(self) -> None:
        while not self._stopped.wait(max(_LOOK_SECONDS, min(self._left_seconds(), self._seconds))):
            if self.shut:
                self._cut()  # as often as one looks: a call may have left in the same moment


class NoFence(Fence):
    """Lets everything out: of lanes that are no worker's."""

    def admits(self, since: float) -> bool:  # noqa: ARG002  # whatever it is
        """Return that a call may be sent."""
        return True

    def _left_seconds(self) -> float:
        return float("inf")
