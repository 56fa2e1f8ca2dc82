"""What a server says that can do nothing for anybody just now, and the connections that are dropped when it does.

Another server may have taken its place, so the next try connects anew.
"""

from __future__ import annotations

import re
from typing import Any

import redis
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
)

#: What to use instead of a cluster: the audit list and RLM's keys would be on different nodes, and no script has both.
CLUSTER_REMEDY = "use one primary with replicas and Sentinel (redis+sentinel://), see docs/operations.md"
#: What each of these words means, and what to do about it.
_MEANING = {
    "READONLY": (
        "it is a replica, which takes no writes",
        "name its primary in redis.url, or the sentinels that know it (redis+sentinel://); after a failover wait",
    ),
    "NOREPLICAS": (
        "too few of its replicas hear it, by min-replicas-to-write",
        "bring its replicas back; right after a failover they come by themselves",
    ),
    "MISCONF": (
        "it cannot write to its disk, and takes no writes until it can",
        "read its log; give it disk and memory",
    ),
    "MASTERDOWN": ("it is a replica that has lost its primary", "bring its primary back, or promote a replica"),
    "DENIED": (
        "it is in protected mode: other hosts are refused while its user `default` has no password",
        "give that user one (ACL SETUSER default >PASSWORD and ACL SAVE, or requirepass), on the host of Redis",
    ),
    "CLUSTERDOWN": (
        "it is a node of a Redis Cluster, which RLM does not work with",
        CLUSTER_REMEDY,
    ),
}
#: In a script that was refused, older servers have their own words before it.
_WORD = re.compile(rf"(?:^|-)({'|'.join(_MEANING)})\b")
#: For these redis-py has classes of its own, and leaves the word out.
_CLASSES = {ReadOnlyError: "READONLY", MasterDownError: "MASTERDOWN", ClusterDownError: "CLUSTERDOWN"}


class NotNowError(redis.ConnectionError):
    """Raised when a server can do nothing just now; its connection is dropped. `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class _Heeding:
    """A connection that is dropped when its server says that it can do nothing just now."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the next reply.

        Raises:
            NotNowError: it was refused for what the server is at the moment.
        """
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
    """By TCP."""


class HeedingTlsConnection(_Heeding, redis.SSLConnection):
    """By TLS."""


class HeedingSocketConnection(_Heeding, redis.UnixDomainSocketConnection):
    """By a Unix socket."""


_HEEDING: dict[type, type] = {
    redis.Connection: HeedingConnection,
    redis.SSLConnection: HeedingTlsConnection,
    redis.UnixDomainSocketConnection: HeedingSocketConnection,
}


def heed(pool: redis.ConnectionPool) -> None:
    """Have the connections of `pool` heed what the server says."""
    pool.connection_class = _HEEDING[pool.connection_class]


def _word(error: redis.ResponseError) -> str:
    found = _WORD.search(str(error))
    return found[1] if found else _CLASSES.get(type(error), "")


def is_cluster(error: Exception) -> bool:
    """Return whether a node of a cluster refused a command for where its keys are."""
    return isinstance(error, AskError | ClusterCrossSlotError)
