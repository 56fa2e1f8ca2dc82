"""Whether a Redis is fit for RLM's ledger: it must not forget anything, by eviction, restart or failover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from rlm.core.errors import StoreForbiddenError, StoreUnfitError
from rlm.ledger.connect import translated
from rlm.ledger.reading.present import Present, present

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: The oldest Redis that has all commands of RLM's scripts.
OLDEST_VERSION = (6, 2)
#: Refusing writes, so running processes cannot announce themselves there.
WRITES = "writes"


class Severity(Enum):
    """What a finding that is not ok means."""

    ERROR = "error"  #: RLM does not work with this Redis
    WARNING = "warning"  #: it does, but with a risk


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked; `remedy` is empty if it is `ok`."""

    name: str
    ok: bool
    message: str
    remedy: str = ""
    severity: Severity = Severity.ERROR

    @property
    def is_fault(self) -> bool:
        """Whether it makes this Redis unfit."""
        return not self.ok and self.severity is Severity.ERROR


def good(message: str, name: str = "") -> Finding:
    """Return a finding without a problem."""
    return Finding(name, ok=True, message=message)


def warning(message: str, remedy: str, name: str = "") -> Finding:
    """Return a finding of a risk."""
    return Finding(name, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)


def fault(message: str, remedy: str, name: str = "") -> Finding:
    """Return a finding that something does not work."""
    return Finding(name, ok=False, message=message, remedy=remedy)


def check_fitness(store: Store, *, allow_volatile: bool = False) -> tuple[Finding, ...]:
    """Check the Redis of `store` and return all findings; `allow_volatile`: that it keeps no file is only a risk.

    Raises:
        StoreError: it cannot be reached, or refuses the login.
    """
    with translated(store.client, "INFO, by which RLM sees whether a Redis is fit"):
        return tuple(judge(store.client.info(), allow_volatile=allow_volatile))


def require_fit(store: Store, *, allow_volatile: bool = False, claim: bool = True) -> None:
    """Return if the Redis of `store` is fit; `claim`: then note the form in which this version keeps its keys.

    Raises:
        StoreUnfitError: it is not; the message names all faults with their remedies.
        StoreError: it cannot be reached or refuses the login.
    """
    if faults := [each for each in check_fitness(store, allow_volatile=allow_volatile) if each.is_fault]:
        raise StoreUnfitError("this Redis could lose events or refuse them", in_words(faults))
    store.require_schema(claim=claim)


def distrusted(store: Store, there: Present | None = None) -> tuple[Finding, ...]:
    """Return why this Redis is not trusted; empty if it is fit, or may not be asked.

    An append-only file is required if the leading scheduler insists on it; if none leads, if any scheduler does.
    """
    insists = any(scheduler.insists_on_file for scheduler in (there or present(store)).candidates)
    with suppress(StoreForbiddenError):
        return tuple(each for each in check_fitness(store, allow_volatile=not insists) if each.is_fault)
    return ()


def unfit(store: Store, there: Present | None = None) -> str:
    """Return the `distrusted` findings in words with their remedies, '' if there are none."""
    return in_words(distrusted(store, there))


def in_words(faults: Iterable[Finding]) -> str:
    """Return the faults and their remedies on one line."""
    return "; ".join(f"{each.message}: {each.remedy}" for each in faults)


def judge(info: Mapping[str, Any], *, allow_volatile: bool = False) -> Iterator[Finding]:
    """Yield the findings about the output of INFO."""
    version = str(info["redis_version"])  # for Valkey, the Redis version that it is compatible with
    shown = f"it is Valkey {info['valkey_version']}" if "valkey_version" in info else f"it is Redis {version}"
    if tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")) >= OLDEST_VERSION:
        yield good(shown, "version")
    else:
        yield fault(f"{shown}, older than {'.'.join(map(str, OLDEST_VERSION))}", "use a newer one", "version")
    if refused := _refuses_writes(info):
        yield fault(*refused, WRITES)
    else:
        yield good("it takes writes", WRITES)
    policy = info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        yield good("it evicts nothing", "eviction")
    else:
        message = f"it drops keys when maxmemory, if set, is reached (maxmemory-policy is {policy})"
        bad = fault if int(info.get("maxmemory", 0)) else warning
        yield bad(message, "set maxmemory-policy to noeviction", "eviction")
    if info.get("aof_enabled"):
        yield good("it keeps an append-only file", "persistence")
    else:
        message = "it keeps snapshots at most, so a crash loses what came after the last (appendonly is no)"
        remedy = "set appendonly to yes, or accept the loss with --allow-volatile"
        yield (warning if allow_volatile else fault)(message, remedy, "persistence")


def _refuses_writes(info: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why it takes no writes, or none by scripts over all keys, and the remedy; None if it takes them."""
    if info.get("cluster_enabled"):
        remedy = "use one primary with replicas and Sentinel (redis+sentinel://), see docs/operations.md"
        return "it is a Redis Cluster, where no script can reach both the audit list and RLM's keys", remedy
    if info.get("role") != "master":
        return "it is a replica, which takes no writes", "name its primary in redis.url"
    if int(info.get("min_slaves_good_slaves", 1)) == 0:  # shown only with min-replicas-to-write
        return "it takes no writes: too few replicas keep up with it", "mend them, or lower min-replicas-to-write"
    if info.get("aof_last_write_status", "ok") != "ok":
        return "it cannot write its append-only file, and refuses to take more", "read its log; make room on its disk"
    most = int(info.get("maxmemory", 0))
    if most and int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0)) > most:
        message = f"its memory is full (maxmemory {most:,} bytes), and it takes no writes until there is room"
        return message, "raise maxmemory, or remove what other programs keep there"
    return None
