"""The client of RLM: that of redis-py, without what RLM has switched off in it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.ledger.replicas import Replicas


class LeanPool(redis.ConnectionPool):
    """A pool of connections, without what redis-py measures as one changes hands: that costs as much as a command."""

    def get_connection(self, *_: Any) -> Any:
        """Return a connection that is ready; redis-py makes one, or mends one that is not."""
        self._checkpid()
        with self._lock:
            connection = self._available_connections.pop() if self._available_connections else None
            if connection is not None:
                self._in_use_connections.add(connection)
        if connection is not None:
            with suppress(redis.ConnectionError, redis.TimeoutError):
                if connection._sock is not None and not connection.can_read():  # noqa: SLF001  # else it connects
                    return connection
            self.release(connection)
        return super().get_connection()

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        if connection.pid != self.pid or connection.should_reconnect():
            super().release(connection)
            return
        with self._lock:
            if connection in self._in_use_connections:
                self._in_use_connections.remove(connection)
                self._available_connections.append(connection)


class LedgerClient(redis.Redis):
    """A client that knows how many `replicas` must have what lasts; None if it need not."""

    replicas: Replicas | None = None

    @classmethod
    def from_url(cls, url: str, **options: Any) -> LedgerClient:
        """Make one for a URL."""
        return cast("LedgerClient", cls.from_pool(LeanPool.from_url(url, **options)))

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Run a command once, and return its reply.

        redis-py puts retries and measurements around each, which cost more than the command and are off here. A
        connection on which one fails drops itself.
        """
        pool = self.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*command, **options)  # type: ignore[no-untyped-call]
            return self.parse_response(connection, command[0], **options)  # type: ignore[no-untyped-call]
        finally:
            pool.release(connection)

    def ask(self, *command: Any) -> Callable[[], Any]:
        """Send a command; return what waits for its reply, which must be called once, whatever happens meanwhile."""
        pool = self.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*command)  # type: ignore[no-untyped-call]
        except BaseException:
            pool.release(connection)
            raise

        def reply() -> Any:
            try:
                return self.parse_response(connection, command[0])  # type: ignore[no-untyped-call]
            finally:
                pool.release(connection)

        return reply
