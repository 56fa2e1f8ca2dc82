"""What a process logs while Redis is away: now and then a line, and when it is back."""

from __future__ import annotations

import logging

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError, StoreGarbledError

#: Minimum seconds between log lines that Redis is away.
TOLD_SECONDS = 5.0


class Outage:
    """One process's trouble with Redis, from the first failed command to the first success after it."""

    def __init__(self, log: logging.Logger, action: str) -> None:
        """Report it to `log` as trouble with `action`."""
        self._log = log
        self._action = action
        self._since: float | None = None
        self._told_until = float("-inf")

    def tell(self, error: StoreError, then: str, **facts: str) -> None:
        """Log that Redis failed and what happens `then`, at most every `TOLD_SECONDS`."""
        now = system_clock.monotonic()
        self._since = now if self._since is None else self._since
        if now < self._told_until:
            return
        self._told_until = now + TOLD_SECONDS
        garbled = isinstance(error, StoreGarbledError)  # it may be a bug: the traceback shows it
        extra = {"action": self._action, **facts}
        self._log.warning("Redis failed; %s: %s", then, error, exc_info=garbled, extra=extra)

    def over(self) -> float:
        """Record that Redis answered. If it had failed, log and return for how many seconds."""
        if self._since is None:
            return 0.0
        lasted = system_clock.monotonic() - self._since
        self._log.info("Redis answers again, after %.1f s", lasted, extra={"action": self._action})
        self._since = None
        return lasted
