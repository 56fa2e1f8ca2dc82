"""Whether a Redis is fit for RLM's ledger: it must not forget anything, by eviction, restart or failover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec
import redis

from rlm.core.errors import StoreUnfitError
from rlm.ledger.connect import translated
from rlm.ledger.reading.present import Present, present
from rlm.ledger.refusals import CLUSTER_REMEDY, refusal_of

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: The oldest Redis that has all commands of RLM's scripts.
OLDEST_VERSION = (6, 2)
#: Using more than this share of `maxmemory` is worth a warning.
FULL = 0.9
#: The finding that this user may not run INFO.
UNTOLD = "info"
#: With one of these faults Redis takes no writes, so running processes cannot announce themselves there.
REFUSING = frozenset({"writes", "memory"})


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


def good(message: str, name: str = "") -> Finding:
    """Return a finding without a problem."""
    return Finding(name, ok=True, message=message)


def warning(message: str, remedy: str, name: str = "") -> Finding:
    """Return a finding of a risk."""
    return Finding(name, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)


def fault(message: str, remedy: str, name: str = "") -> Finding:
    """Return a finding that something does not work."""
    return Finding(name, ok=False, message=message, remedy=remedy)


class Fitness(msgspec.Struct, frozen=True):
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make this Redis unfit."""
        return tuple(found for found in self.findings if not found.ok and found.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings of a risk."""
        return tuple(found for found in self.findings if not found.ok and found.severity is Severity.WARNING)


def check_fitness(store: StoreFront, *, allow_volatile: bool = False) -> Fitness:
    """Check the Redis of `store` and return all findings.

    With `allow_volatile`, a missing append-only file is a warning instead of an error.

    Raises:
        StoreUnreachableError: it cannot be reached.
        StoreError: it refuses the login.
    """
    client = store.client
    with translated(client):
        try:
            info = client.info()
        except redis.ResponseError as error:
            if refusal_of(error):
                raise
            remedy = "allow the user of redis.url to ask (ACL SETUSER name +info)"
            return Fitness((fault(f"it does not report what it is ({error})", remedy, UNTOLD),))
        return Fitness((_schema(store), *judge(info, allow_volatile=allow_volatile)))


def require_fit(store: StoreFront, *, allow_volatile: bool = False, claim: bool = True) -> None:
    """Return if the Redis of `store` is fit; `claim`: then note the form in which this version keeps its keys.

    Raises:
        StoreUnfitError: it is not; the message names all faults with their remedies.
        StoreError: it cannot be reached or refuses the login.
    """
    if errors := check_fitness(store, allow_volatile=allow_volatile).errors:
        raise StoreUnfitError("this Redis could lose events or refuse them", in_words(errors))
    store.require_schema(claim=claim)


def _schema(store: StoreFront) -> Finding:
    try:
        store.require_schema()
    except StoreUnfitError as error:
        return fault(error.what, error.remedy, "schema")
    return good("what RLM keeps there has the form of this version", "schema")


def distrusted(store: StoreFront, there: Present | None = None) -> tuple[Finding, ...]:
    """Return why this Redis is not trusted; empty if it is fit, or may not be asked.

    An append-only file is required if the leading scheduler insists on it; if none leads, if any scheduler does.
    """
    insists = any(one.insists_on_file for one in (there or present(store)).candidates)
    errors = check_fitness(store, allow_volatile=not insists).errors
    return tuple(one for one in errors if one.name != UNTOLD)


def unfit(store: StoreFront, there: Present | None = None) -> str:
    """Return the `distrusted` findings in words with their remedies, '' if there are none."""
    return in_words(distrusted(store, there))


def in_words(errors: Iterable[Finding]) -> str:
    """Return the faults and their remedies on one line."""
    return "; ".join(f"{one.message}: {one.remedy}" for one in errors)


def judge(info: Mapping[str, Any], *, allow_volatile: bool = False) -> Iterator[Finding]:
    """Yield the findings about the output of INFO."""
    yield _version(info)
    yield _writes(info)
    yield from _memory(info)
    yield from _persistence(info, allow_volatile=allow_volatile)


def _version(info: Mapping[str, Any]) -> Finding:
    text = str(info["redis_version"])  # for Valkey, the Redis version that it is compatible with
    shown = f"it is Valkey {info['valkey_version']}" if "valkey_version" in info else f"it is Redis {text}"
    if tuple(int(part) if part.isdecimal() else 0 for part in text.split(".")) >= OLDEST_VERSION:
        return good(shown, "version")
    oldest = ".".join(map(str, OLDEST_VERSION))
    return fault(f"{shown}, older than {oldest}", "upgrade it, or use another", "version")


def _writes(info: Mapping[str, Any]) -> Finding:
    """Check whether it takes writes now."""
    if info.get("loading"):
        return fault("it is still reading its data", "wait until it has, and try again", "writes")
    if info.get("cluster_enabled"):
        message = "it is a Redis Cluster, where no script can reach both the audit list and RLM's keys"
        return fault(message, CLUSTER_REMEDY, "writes")
    if info.get("role") != "master":
        return fault("it is a replica, which takes no writes", "name its primary in redis.url", "writes")
    if int(info.get("min_slaves_good_slaves", 1)) == 0:  # shown only with min-replicas-to-write
        message = "it takes no writes: too few of its replicas keep up with it"
        return fault(message, "bring its replicas back, or lower min-replicas-to-write", "writes")
    if info.get("aof_last_write_status", "ok") != "ok":
        message = "it cannot write its append-only file, and refuses to take more"
        return fault(message, "read its log; make room on its disk", "writes")
    return good("it takes writes", "writes")


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Check what a full memory would do: a full Redis refuses items, and the steps of events as well."""
    policy, remedy = info.get("maxmemory_policy", "unknown"), "set maxmemory-policy to noeviction"
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if policy == "noeviction":
        yield good("it evicts nothing", "eviction")
    elif most:
        yield fault(f"it drops keys when its memory is full (maxmemory-policy is {policy})", remedy, "eviction")
    else:
        message = f"it would evict keys if maxmemory were set (maxmemory-policy is {policy})"
        yield warning(message, remedy, "eviction")
    message = f"{used / most:.0%} of its memory is used (maxmemory {most:,} bytes)" if most else ""
    if used - int(info.get("mem_not_counted_for_evict", 0)) > most > 0 and policy == "noeviction":
        remedy = "raise maxmemory, or remove what other programs keep there"
        yield fault(f"its memory is full, and it takes no writes until there is room: {message}", remedy, "memory")
    elif used > FULL * most > 0:
        remedy = "raise maxmemory, or push more slowly: when it is full, items are refused and nothing is sent"
        yield warning(message, remedy, "memory")
    else:
        yield good(message or "its memory has no bound of its own (maxmemory is 0)", "memory")


def _persistence(info: Mapping[str, Any], *, allow_volatile: bool) -> Iterator[Finding]:
    """Check what a restart would lose."""
    if not info.get("aof_enabled"):
        message = "it keeps snapshots at most, so a crash loses what came after the last (appendonly is no)"
        remedy = "set appendonly to yes, or accept the loss with --allow-volatile"
        yield (warning if allow_volatile else fault)(message, remedy, "persistence")
    elif any(info.get(name, "ok") != "ok" for name in ("aof_last_bgrewrite_status", "rdb_last_bgsave_status")):
        message = "it cannot write a snapshot or shorten its append-only file; it may refuse writes for that (MISCONF)"
        remedy = "read its log; give it disk and memory, and set vm.overcommit_memory to 1"
        yield warning(message, remedy, "persistence")
    else:
        yield good("it keeps an append-only file", "persistence")
