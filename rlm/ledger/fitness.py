"""Whether a Redis is fit for RLM's ledger: it must not forget anything, by eviction, restart or failover."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec
import redis

from rlm.core.errors import StoreUnfitError
from rlm.ledger.connect import translated
from rlm.ledger.reading.present import Present, present
from rlm.ledger.refusals import CLUSTER_REMEDY, refusal_of
from rlm.ledger.trouble import goes_by_sentinel

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: The oldest Redis that has all commands of RLM's scripts.
OLDEST_VERSION = (6, 2)
#: The oldest Redis whose CONFIG GET takes several names.
MANY_VERSION = (7, 0)
#: Using more than this share of `maxmemory` is worth a warning.
FULL = 0.9
#: The finding that this user may not run INFO.
UNTOLD = "info"
#: With one of these faults Redis takes no writes, so running processes cannot announce themselves there.
REFUSING = frozenset({"role", "replicas", "memory", "appending", "snapshots"})
#: Settings that INFO lacks and CONFIG GET has.
SETTINGS = ("appendfsync", "save", "stop-writes-on-bgsave-error", "min-replicas-to-write", "min-replicas-max-lag")


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
        sentinel = goes_by_sentinel(client)
        judged = judge(info, _settings(client, _version(info)), sentinel=sentinel, allow_volatile=allow_volatile)
        return Fitness((_schema(store), *judged.findings))


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


def judge(
    info: Mapping[str, Any], settings: Mapping[str, str], *, sentinel: bool = False, allow_volatile: bool = False
) -> Fitness:
    """Judge the output of INFO; `settings` is that of CONFIG GET for `SETTINGS`, empty if that is forbidden.

    `sentinel`: it was found by Sentinel, so another server may take its place.
    """
    replicas = _replicas(info, settings, sentinel=sentinel)
    persistence = _persistence(info, settings, allow_volatile=allow_volatile)
    return Fitness((*_state(info), replicas, *_memory(info), *persistence))


def _settings(client: redis.Redis, version: tuple[int, ...]) -> dict[str, str]:
    pipeline = client.pipeline(transaction=False)
    for names in [SETTINGS] if version >= MANY_VERSION else [(name,) for name in SETTINGS]:
        pipeline.config_get(*names)
    try:
        told = ChainMap(*pipeline.execute())
    except redis.ResponseError:
        return {}
    return {name: str(told.get(name, "")) for name in SETTINGS}


def _version(info: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in str(info["redis_version"]).split("."))


def _checked(ok: object, well: str, otherwise: Finding) -> Finding:
    """Return a good finding with the text `well` if `ok`, else `otherwise`."""
    return good(well, otherwise.name) if ok else otherwise


def _state(info: Mapping[str, Any]) -> Iterator[Finding]:
    text = str(info["redis_version"])  # for Valkey, the Redis version that it is compatible with
    shown = f"it is Valkey {info['valkey_version']}" if "valkey_version" in info else f"it is Redis {text}"
    older = f"{shown}, older than {'.'.join(map(str, OLDEST_VERSION))}"
    yield _checked(_version(info) >= OLDEST_VERSION, shown, fault(older, "upgrade it, or use another", "version"))
    loading = fault("it is still reading its data", "wait until it has, and try again", "loading")
    yield _checked(not info.get("loading"), "it has read all its data", loading)
    replica = fault("it is a replica, which takes no writes", "name its primary in redis.url", "role")
    yield _checked(info.get("role") == "master", "it takes writes", replica)
    message = "it is a Redis Cluster, where no script can reach both the audit list and RLM's keys"
    yield _checked(not info.get("cluster_enabled"), "it is not a cluster", fault(message, CLUSTER_REMEDY, "cluster"))


def _replicas(info: Mapping[str, Any], settings: Mapping[str, str], *, sentinel: bool) -> Finding:
    """Check that a primary stops taking writes when it is cut off and replaced; otherwise there are two ledgers.

    Either setting turns this off with 0, see redis.conf. INFO shows how many replicas hear it only if both are set; if
    these are too few, it is cut off now.
    """
    least, lag = settings.get("min-replicas-to-write", ""), settings.get("min-replicas-max-lag", "")
    heard = info.get("min_slaves_good_slaves")
    if heard is not None and int(heard) < int(least or 1):
        few = f"too few of its replicas keep up with it ({heard}, and min-replicas-to-write is {least or 'not told'})"
        message, remedy = f"it takes no writes: {few}", "bring its replicas back, or lower min-replicas-to-write"
        return fault(message, remedy, "replicas")
    if not sentinel and not int(info.get("connected_slaves", 0)):
        return good("it has no replica that could take its place while it goes on", "replicas")
    remedy = "set min-replicas-to-write to 1, and min-replicas-max-lag to fewer seconds than a failover takes"
    if not least or not lag:
        message = "it cannot be seen whether it refuses writes once it is cut off from its replicas (CONFIG GET)"
        remedy = f"make sure that it does: {remedy}; with ACL SETUSER name +config|get RLM checks this itself"
        return warning(message, remedy, "replicas")
    if int(least) and int(lag):
        return good(f"it refuses writes {lag} s after it was cut off from its replicas", "replicas")
    message = (
        "a primary that was cut off continues to take writes beside the replica that took its place, so limits would "
        f"be used and events sent twice (min-replicas-to-write is {least}, min-replicas-max-lag {lag})"
    )
    return warning(message, remedy, "replicas")


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
        return
    remedy = "raise maxmemory, or push more slowly: when it is full, items are refused and nothing is sent"
    well = message or "its memory has no bound of its own (maxmemory is 0)"
    yield _checked(not used > FULL * most > 0, well, warning(message, remedy, "memory"))


def _persistence(info: Mapping[str, Any], settings: Mapping[str, str], *, allow_volatile: bool) -> Iterator[Finding]:
    """Check what a restart or a power cut would lose."""
    save = settings.get("save")
    if info.get("aof_enabled"):
        yield good("it keeps an append-only file", "persistence")
        yield _sync(settings.get("appendfsync", "unknown"))
    else:
        lost = (
            "it keeps nothing on disk, so a restart loses everything (appendonly is no, save is empty)"
            if save == ""
            else "it keeps snapshots at most, so a crash loses what came after the last (appendonly is no)"
        )
        tell = warning if allow_volatile else fault
        yield tell(lost, "set appendonly to yes, or accept the loss with --allow-volatile", "persistence")
        yield good("it has no append-only file to be late with", "sync")
    message = "it cannot write its append-only file, and refuses to take more"
    refused = fault(message, "read its log; make room on its disk", "appending")
    well = "its last write to the append-only file succeeded"
    yield _checked(info.get("aof_last_write_status", "ok") == "ok", well, refused)
    remedy = "read its log; give it disk and memory, and set vm.overcommit_memory to 1"
    grows = warning("it cannot shorten its append-only file, which grows", remedy, "rewriting")
    yield _checked(info.get("aof_last_bgrewrite_status", "ok") == "ok", "it can shorten its append-only file", grows)
    if info.get("rdb_last_bgsave_status", "ok") == "ok":
        yield good("its last snapshot did not fail", "snapshots")
    elif save == "" or settings.get("stop-writes-on-bgsave-error") == "no":
        yield warning("its last snapshot failed", remedy, "snapshots")
    else:
        message = "its snapshots fail, and it refuses writes until one succeeds (MISCONF)"
        yield fault(message, remedy, "snapshots")


def _sync(policy: str) -> Finding:
    lost = "a power cut may lose the last moments of what it has accepted"
    if policy == "always":
        return good("what it has accepted is on disk", "sync")
    if policy == "unknown":
        remedy = "make sure that appendfsync is always; with ACL SETUSER name +config|get RLM checks this itself"
        return warning(f"it cannot be seen whether {lost} (CONFIG GET)", remedy, "sync")
    return warning(f"{lost} (appendfsync is {policy})", "set appendfsync to always", "sync")
