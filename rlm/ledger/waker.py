"""What a process hears of Redis: the wake-ups on a channel, and that it is away.

A lost wake-up only costs time, because all poll.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError, StoreGarbledError
from rlm.ledger.connect import make_client

_RECONNECT_SECONDS = 0.5


class Waker:
    """A thread that calls back for each message on a channel, and once after each (re)connection."""

    def __init__(self, url: str, channel: str, callback: Callable[[], None]) -> None:
        self._url = url
        self._channel = channel
        self._callback = callback
        self._stopped = threading.Event()
        self._subscriber: Any = None
        self._thread = threading.Thread(target=self._listen, name=f"waker({channel})", daemon=True)

    def start(self) -> None:
        """Start listening."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; return when the thread has ended."""
        self._stopped.set()
        with suppress(AttributeError, OSError):  # not connected
            self._subscriber.connection._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001  # ends its waiting
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _RECONNECT_SECONDS)

    def _listen(self) -> None:
        while not self._stopped.is_set():
            # No time-out: a server that is gone is noticed by the kernel (`connect.py`).
            with suppress(redis.RedisError), make_client(self._url, socket_timeout=None) as client:
                self._subscriber = client.pubsub()
                with self._subscriber:
                    self._subscriber.subscribe(self._channel)
                    for _ in self._subscriber.listen():  # first the confirmation
                        self._callback()
            if not self._stopped.is_set():
                system_clock.sleep(_RECONNECT_SECONDS)


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

    def over(self) -> float:
        """Record that Redis answered. If it had failed, log and return for how many seconds."""
        if self._since is None:
            return 0.0
        lasted = system_clock.monotonic() - self._since
        self._log.info("Redis answers again, after %.1f s", lasted, extra={"action": self._action})
        self._since = None
        return lasted
