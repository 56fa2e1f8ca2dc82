"""What a process hears of Redis: the wake-ups on a channel, and that it is away.

A lost wake-up only costs time, because all poll.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

import redis

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError, StoreGarbledError
from rlm.ledger.connect import make_client

_RECONNECT_SECONDS = 0.5


class Waker(threading.Thread):
    """A thread that calls back for each message on a channel, and once after each (re)connection."""

    def __init__(self, url: str, channel: str, callback: Callable[[], None]) -> None:
        super().__init__(name=f"waker({channel})", daemon=True)
        # No time-out: a server that is gone is noticed by the kernel (`connect.py`).
        self._client = make_client(url, socket_timeout=None)
        self._channel, self._callback = channel, callback
        self._ended = threading.Event()

    def stop(self) -> None:
        """Stop listening; return when the thread has ended."""
        self._ended.set()
        self._client.close()  # ends its waiting
        if self.is_alive():
            self.join(timeout=2 * _RECONNECT_SECONDS)

    def run(self) -> None:
        """Listen; `start` begins it in the thread."""
        while not self._ended.is_set():
            with suppress(redis.RedisError), self._client.pubsub() as subscriber:  # type: ignore[no-untyped-call]
                subscriber.subscribe(self._channel)
                for _ in subscriber.listen():  # first the confirmation
                    self._callback()
            self._ended.wait(_RECONNECT_SECONDS)


class Outage:
    """One process's trouble with Redis, from the first failed command to the first success after it."""

    def __init__(self, log: logging.Logger, action: str) -> None:
        """Report it to `log` as trouble with `action`."""
        self._log = log
        self._action = action
        self._since: float | None = None
        self._silent_until = float("-inf")

    def tell(self, error: StoreError, then: str, **facts: str) -> None:
        """Log that Redis failed and what happens `then`, at most every 5 seconds."""
        now = system_clock.monotonic()
        self._since = now if self._since is None else self._since
        if now >= self._silent_until:
            self._silent_until = now + 5.0
            garbled = isinstance(error, StoreGarbledError)  # it may be a bug: the traceback shows it
            extra = {"action": self._action, **facts}
            self._log.warning("Redis failed; %s: %s", then, error, exc_info=garbled, extra=extra)

    def over(self) -> None:
        """Record that Redis answered. If it had failed, log for how many seconds."""
        if self._since is not None:
            lasted = system_clock.monotonic() - self._since
            self._log.info("Redis answers again, after %.1f s", lasted, extra={"action": self._action})
            self._since = None
