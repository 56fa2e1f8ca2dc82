"""What a process logs while Redis is away: now and then a line, an alarm if it lasts, and when it is back."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError, StoreGarbledError

#: Minimum seconds between log lines that Redis is away.
TOLD_SECONDS = 5.0
#: A restarted server is back sooner than this, seconds. After that somebody must look.
LASTING_SECONDS = 5.0


class Outage:
    """One process's trouble with Redis, from the first failed command to the first success after it."""

    def __init__(self, log: logging.Logger, action: str, *, lasting_seconds: float = LASTING_SECONDS) -> None:
        """Report it to `log` as trouble with `action`, and as an alarm once it has lasted `lasting_seconds`."""
        self._log = log
        self._action = action
        self._lasting_seconds = lasting_seconds
        self._since: float | None = None
        self._told_until = float("-inf")

    def tell(self, error: StoreError, then: str, **facts: str) -> None:
        """Log that Redis failed and what happens `then`, at most every `TOLD_SECONDS`."""
        now = system_clock.monotonic()
        self._since = now if self._since is None else self._since
        if now < self._told_until:
            return
        self._told_until = now + TOLD_SECONDS
        lasted = now - self._since
        extra: Mapping[str, object]
        if isinstance(error, StoreGarbledError):  # it does not pass by itself, and may be a bug: the traceback shows it
            extra = alarm(Alarm.KEY_DAMAGED, self._action, counts=None, **facts)
            self._log.error("What is in Redis cannot be used; %s: %s", then, error, exc_info=True, extra=extra)
        elif lasted < self._lasting_seconds:
            extra = {"action": self._action, **facts}
            self._log.warning("Redis failed; %s: %s", then, error, extra=extra)
        else:
            extra = alarm(Alarm.REDIS_AWAY, self._action, counts={"seconds": round(lasted, 1)}, **facts)
            self._log.error("Redis has been failing for %.0f s; %s: %s", lasted, then, error, extra=extra)

    def over(self) -> float:
        """Record that Redis answered. If it had failed, log and return for how many seconds."""
        if self._since is None:
            return 0.0
        lasted = system_clock.monotonic() - self._since
        self._log.info("Redis answers again, after %.1f s", lasted, extra={"action": self._action})
        self._since = None
        return lasted
