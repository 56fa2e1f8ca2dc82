"""The client of RLM: that of redis-py, without what RLM has switched off in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.ledger.replicas import Replicas


class LedgerClient(redis.Redis):
    """A client that knows how many `replicas` must have what lasts; None if it need not."""

    replicas: Replicas | None = None

    @classmethod
    def from_url(cls, url: str, **options: Any) -> LedgerClient:
        """Make one for a URL."""
        found = super().from_url(url, **options)
        return cast("LedgerClient", found)

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
