"""The families of keys as the table in rlm/ledger/keys.py has them, for programs: which type each is of."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(StrEnum):
    """The types of Redis that RLM uses; the values are what `TYPE` says."""

    STRING = "string"
    HASH = "hash"
    LIST = "list"
    SET = "set"
    ZSET = "zset"


#: By the name in the table. The broker's own are not there, and spelled as its script spells them.
FAMILIES: Mapping[str, Kind] = {
    "(`queue.events`)": Kind.LIST,
    "(`queue.processing`)": Kind.LIST,
    "(`queue.failed`)": Kind.LIST,
    "aside:LIST": Kind.LIST,
    "giant:NAME": Kind.STRING,
    "lease": Kind.HASH,
    "sequence": Kind.STRING,
    "epoch": Kind.HASH,
    "types": Kind.SET,
    "event:ID": Kind.HASH,
    "pending:TYPE": Kind.ZSET,
    "backoff:TYPE": Kind.ZSET,
    "spent:TYPE": Kind.ZSET,
    "released:TYPE": Kind.ZSET,
    "inflight:TYPE": Kind.ZSET,
    "retried:TYPE": Kind.ZSET,
    "current": Kind.STRING,
    "run:ID": Kind.HASH,
    "tally:ID": Kind.HASH,
    "timings:ID": Kind.LIST,
    "totals": Kind.HASH,
    "measured": Kind.HASH,
    "expected": Kind.HASH,
    "records": Kind.HASH,
    "runs": Kind.LIST,
    "last_tick": Kind.STRING,
    "window:URLHASH": Kind.LIST,
    "moved:URLHASH": Kind.LIST,
    "health:URLHASH": Kind.HASH,
    "budgets": Kind.HASH,
    "limits": Kind.HASH,
    "limits:filed": Kind.HASH,
    "changes": Kind.LIST,
    "dropped": Kind.HASH,
    "wanted": Kind.STRING,
    "coming_up": Kind.STRING,
    "restarts": Kind.STRING,
    "restarted:WORKER": Kind.STRING,
    "processes:ROLE": Kind.SET,
    "process:ROLE:ID": Kind.STRING,
    "calls:WORKER": Kind.HASH,
    "alone:WORKER": Kind.STRING,
    "requests": Kind.LIST,
    "reply:ID": Kind.STRING,
    "quarantine": Kind.HASH,
}
#: The broker's, as its script names them for the queue `rlm`; the last one for each worker.
BROKER: Mapping[str, Kind] = {
    "__heartbeats__": Kind.ZSET,
    "rlm": Kind.LIST,
    "rlm.msgs": Kind.HASH,
    "rlm.XQ": Kind.ZSET,
    "rlm.XQ.msgs": Kind.HASH,
    "__acks__.WORKER.rlm": Kind.SET,
}
