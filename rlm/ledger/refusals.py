"""What it means when a server refuses every command, or every write, because of its own state."""

from __future__ import annotations

import re
from typing import NamedTuple

import redis
from redis.exceptions import (
    AskError,
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


class Refusal(NamedTuple):
    """Why a server cannot serve now: the error's word, what it means, and what to do."""

    word: str
    meaning: str
    remedy: str


def refusal_of(error: redis.RedisError) -> Refusal | None:
    """Return why the server cannot serve now; None if the error says nothing about its state. Nothing was done then."""
    if isinstance(error.__context__, ReadOnlyError):  # with Sentinel, redis-py reports a cut connection instead
        error = error.__context__
    if not isinstance(error, redis.ResponseError):
        return None
    match = _WORD.search(str(error))
    word = match[1] if match else _CLASSES.get(type(error), "")
    return Refusal(word, *_MEANING[word]) if word else None


def is_cluster(error: Exception) -> bool:
    """Return whether a cluster node refused a command because of where its keys are."""
    return isinstance(error, AskError | ClusterCrossSlotError)
