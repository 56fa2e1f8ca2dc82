"""What a process does while Redis is away: it tells of it now and then, and starts an embedded server again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError, StoreGarbledError

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: Minimum seconds between log lines that Redis is away.
TOLD_SECONDS = 5.0
#: A restarted server is back sooner, seconds. After that somebody has to look.
LASTING_SECONDS = 5.0

log = logging.getLogger(__name__)


def revive(store: Store) -> None:
    """Start the embedded server again if it has died under its users; any other Redis is waited for."""
    try:
        store.revive()
    except StoreError as error:
        if system_clock.monotonic() >= store.told_until:  # not at each turn of a loop
            store.told_until = system_clock.monotonic() + TOLD_SECONDS
            log.error(  # noqa: TRY400  # the message says it all
                "The embedded server cannot be started again: %s", error, extra=alarm(Alarm.REDIS_AWAY, "revive")
            )


class Outage:
    """One process's trouble with Redis, from the command that failed first to the first success after it."""

    def __init__(self, log: logging.Logger, action: str, *, lasting_seconds: float = LASTING_SECONDS) -> None:
        """Report it to `log` as trouble with `action`, as an alarm once it has lasted for `lasting_seconds`."""
        self._log = log
        self._action = action
        self._lasting_seconds = lasting_seconds
        self._since: float | None = None
        self._told_until = float("-inf")

    def tell(self, error: StoreError, then: str, **facts: str) -> None:
        """Log that Redis failed and what happens `then`, at most every `TOLD_SECONDS`."""
        now = system_clock.monotonic()
        self._since = now - error.waited_seconds if self._since is None else self._since
        if now < self._told_until:
            return
        self._told_until = now + TOLD_SECONDS
        lasted = now - self._since
        if lasted < self._lasting_seconds:
            # What cannot be read may be a fault of RLM's own, of which only the traceback tells.
            traceback = isinstance(error, StoreGarbledError)
            extra = {"action": self._action, **facts}
            self._log.warning("Redis failed; %s: %s", then, error, exc_info=traceback, extra=extra)
        else:
            self._log.error(
                "Redis has been failing for %.0f s; %s: %s",
                lasted,
                then,
                error,
                extra=alarm(Alarm.REDIS_AWAY, self._action, counts={"seconds": round(lasted, 1)}, **facts),
            )

    def over(self) -> float:
        """Note that Redis answered. If it had failed, log for how long and return that, seconds."""
        if self._since is None:
            return 0.0
        lasted = system_clock.monotonic() - self._since
        self._log.info("Redis answers again, after %.1f s", lasted, extra={"action": self._action})
        self._since = None
        return lasted
