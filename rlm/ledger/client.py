"""The client of RLM: redis-py's, without the features that RLM has switched off.

A connection is dropped when its server says that it cannot serve now. Another server may have taken its place, so the
next attempt reconnects. A write that must survive a fail-over waits until replicas have it. Waiting costs a round
trip from the primary to its replicas, so only what has an effect outside of Redis waits: a call is sent after its slot,
the next call after what the last answer settled, and a pushed item is reported after its push. Everything else stays
within Redis, where a replica has a state that the primary had at some moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, cast

import redis
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
)

#: The alternative to a cluster, where the audit list and RLM's keys would be on different nodes, so no script has both.
CLUSTER_REMEDY = "use one primary with replicas and Sentinel (redis+sentinel://), see docs/operations.md"
#: What each error word means, and what to do about it.
_MEANING = {
    "READONLY": (
        "it is a replica, which takes no writes",
        "name its primary in redis.url, or the sentinels that know it (redis+sentinel://); after a failover wait",
    ),
    "NOREPLICAS": (
        "too few of its replicas keep up with it, and it takes no writes until more do (min-replicas-to-write)",
        "bring its replicas back; right after a failover they come back by themselves",
    ),
    "MISCONF": (
        "it cannot write to its disk, and takes no writes until it can",
        "read its log; give it disk and memory",
    ),
    "OOM": (
        "its memory is full, and it takes no writes until there is room (maxmemory)",
        "raise maxmemory on it, or remove what other programs keep there; events then continue by themselves",
    ),
    "MASTERDOWN": ("it is a replica that has lost its primary", "bring its primary back, or promote a replica"),
    "DENIED": (
        "it is in protected mode: other hosts are refused while its user `default` has no password",
        "give that user one (ACL SETUSER default >PASSWORD and ACL SAVE, or requirepass), on the host of Redis",
    ),
    "DB index": (
        "it has no database with that number",
        "correct the number at the end of redis.url (or REDIS_URL); `databases` in its settings says how many it has",
    ),
    "CLUSTERDOWN": ("it is a node of a Redis Cluster, which RLM does not work with", CLUSTER_REMEDY),
}
#: Older servers put words of their own before the error of a script.
_WORD = re.compile(rf"(?:^|-)({'|'.join(_MEANING)})\b")
#: redis-py has classes for these errors, and drops the word.
_CLASSES = {
    ReadOnlyError: "READONLY",
    OutOfMemoryError: "OOM",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
}


class NotNowError(redis.ConnectionError):
    """Raised when a server cannot serve now; its connection is dropped. `remedy` says what to do.

    `undone`: the server refused the command, so nothing was carried out.
    """

    def __init__(self, what: str, remedy: str, *, undone: bool = True) -> None:
        super().__init__(what)
        self.remedy = remedy
        self.undone = undone


class _Heeding:
    """A connection that is dropped when its server says that it cannot serve now."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the next reply. Raises NotNowError if the server's state made it refuse."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except BusyLoadingError:
            self.disconnect()  # type: ignore[attr-defined]
            raise
        except redis.ResponseError as error:
            word = _word(error)
            if word not in _MEANING:
                raise
            self.disconnect()  # type: ignore[attr-defined]
            meaning, remedy = _MEANING[word]
            raise NotNowError(f"{meaning} ({word})", remedy) from error


class HeedingConnection(_Heeding, redis.Connection):
    """A connection by TCP."""


class HeedingTlsConnection(_Heeding, redis.SSLConnection):
    """A connection by TLS."""


class HeedingSocketConnection(_Heeding, redis.UnixDomainSocketConnection):
    """A connection by a Unix socket."""


_HEEDING: dict[type, type] = {
    redis.Connection: HeedingConnection,
    redis.SSLConnection: HeedingTlsConnection,
    redis.UnixDomainSocketConnection: HeedingSocketConnection,
}


def heed(pool: redis.ConnectionPool) -> None:
    """Make the connections of `pool` heed such errors."""
    pool.connection_class = _HEEDING[pool.connection_class]


def _word(error: redis.ResponseError) -> str:
    found = _WORD.search(str(error))
    return found[1] if found else _CLASSES.get(type(error), "")


def is_cluster(error: Exception) -> bool:
    """Return whether a cluster node refused a command because of where its keys are."""
    return isinstance(error, AskError | ClusterCrossSlotError)


class LeanPool(redis.ConnectionPool):
    """A connection pool without redis-py's measurements on each use, which cost as much as a command."""

    def get_connection(self, *_: Any) -> Any:
        """Return a usable connection; redis-py makes one if none is."""
        self._checkpid()
        with self._lock:
            connection = self._available_connections.pop() if self._available_connections else None
            if connection is not None:
                self._in_use_connections.add(connection)
        if connection is not None:
            with suppress(redis.ConnectionError, redis.TimeoutError):
                if connection._sock is not None and not connection.can_read():  # noqa: SLF001  # None: not connected
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
    """A client that knows which `replicas` must have durable writes; None if none."""

    replicas: Replicas | None = None

    @classmethod
    def from_url(cls, url: str, **options: Any) -> LedgerClient:
        """Return a client for a URL."""
        return cast("LedgerClient", cls.from_pool(LeanPool.from_url(url, **options)))

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Run a command once and return its reply.

        redis-py wraps commands in retries and measurements, which cost more than the command and are off here. A
        connection on which a command fails drops itself.
        """
        pool = self.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*command, **options)  # type: ignore[no-untyped-call]
            return self.parse_response(connection, command[0], **options)  # type: ignore[no-untyped-call]
        finally:
            pool.release(connection)

    def ask(self, *command: Any) -> Callable[[], Any]:
        """Send a command; return a function that waits for its reply and must be called exactly once in any case."""
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


#: Scripts whose result somebody acts on: a call is made or not repeated, or it decides whether slots were forgotten.
LASTING = frozenset({"take_turn", "acquire_slot", "fail_event", "vouch_server"})


class Replicas(NamedTuple):
    """How many replicas must have durable writes, and how many milliseconds they may take."""

    number: int
    milliseconds: int


def replicas_of(client: redis.Redis) -> Replicas | None:
    """Return the replicas that `client` waits for; None if it waits for none."""
    found = getattr(client, "replicas", None)
    return found if found and found.number else None


def run_lasting(client: redis.Redis, *command: Any) -> Any:
    """Run a command and return its reply once the replicas have its writes, in one round trip.

    Raises NotNowError if too few have them in time; then the command was carried out, but may be lost.
    """
    wanted = replicas_of(client)
    if wanted is None:
        return client.execute_command(*command)  # type: ignore[no-untyped-call]
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    pipeline.execute_command("WAIT", *wanted)  # type: ignore[no-untyped-call]
    reply, have = pipeline.execute(raise_on_error=False)
    for one in (reply, have):
        if isinstance(one, redis.ResponseError):
            raise one
    if have < wanted.number:
        what = f"{have} of {wanted.number} replicas had the writes within {wanted.milliseconds} ms"
        remedy = "bring its replicas back, or lower redis.wait_replicas"
        raise NotNowError(f"{what} (redis.wait_replicas)", remedy, undone=False)
    return reply
