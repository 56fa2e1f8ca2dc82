"""How trouble with Redis is told: at once, now and then while it lasts, as an error once it has lasted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock

if TYPE_CHECKING:
    import logging

    from rlm.core.clock import Clock
    from rlm.core.errors import StoreError

#: How often it is told that Redis is away, seconds.
TOLD_SECONDS = 5.0
#: A server that is restarted is back sooner than this, seconds; one that is not needs somebody.
LASTING_SECONDS = 5.0


class Outage:
    """One process's trouble with Redis, from the command that failed first to the first success after it."""

    def __init__(
        self,
        log: logging.Logger,
        action: str,
        clock: Clock = system_clock,
        *,
        lasting_seconds: float = LASTING_SECONDS,
    ) -> None:
        """Tell of it in `log`, as what this process was doing; once it is lasting, it is an alarm."""
        self._log = log
        self._action = action
        self._clock = clock
        self._lasting_seconds = lasting_seconds
        self._since: float | None = None
        self._told_until = float("-inf")

    def tell(self, error: StoreError, then: str, **facts: str) -> None:
        """Say that Redis failed, and what is done about it `then`; not at each turn of a loop."""
        now = self._clock.monotonic()
        self._since = now - error.waited_seconds if self._since is None else self._since
        if now < self._told_until:
            return
        self._told_until = now + TOLD_SECONDS
        lasted = now - self._since
        if lasted < self._lasting_seconds:
            self._log.warning("Redis failed; %s: %s", then, error, extra={"action": self._action, **facts})
        else:
            self._log.error(
                "Redis has been failing for %.0f s; %s: %s",
                lasted,
                then,
                error,
                extra=alarm(Alarm.REDIS_AWAY, self._action, counts={"seconds": round(lasted, 1)}, **facts),
            )

    def over(self) -> float:
        """Note that Redis did what it was asked; where it had failed, log for how long and return that, seconds."""
        if self._since is None:
            return 0.0
        lasted = self._clock.monotonic() - self._since
        self._log.info("Redis answers again, after %.1f s", lasted, extra={"action": self._action})
        self._since = None
        return lasted
