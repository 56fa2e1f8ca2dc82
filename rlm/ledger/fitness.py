"""Whether a Redis is fit to keep RLM's ledger: it must forget nothing, by eviction, restart or failover."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import redis

from rlm.core.errors import StoreUnfitError
from rlm.ledger.connect import goes_by_sentinel, translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.ledger import Store

#: The oldest Redis whose commands RLM's scripts can count on.
OLDEST_VERSION = (6, 2)
#: More than this share of `maxmemory` in use is worth a warning.
FULL = 0.9
#: What INFO does not say and CONFIG GET does.
SETTINGS = ("appendfsync", "save", "stop-writes-on-bgsave-error", "min-replicas-to-write", "min-replicas-max-lag")


class Severity(Enum):
    """What a finding that is not ok means."""

    ERROR = "error"  #: RLM does not work with this Redis
    WARNING = "warning"  #: it does, with a risk that is worth knowing


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` is empty where it is `ok`."""

    name: str
    ok: bool
    message: str
    remedy: str = ""
    severity: Severity = Severity.ERROR


@dataclass(frozen=True, slots=True)
class Fitness:
    """All that was found."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes this Redis unfit."""
        return tuple(found for found in self.findings if not found.ok and found.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What is a risk."""
        return tuple(found for found in self.findings if not found.ok and found.severity is Severity.WARNING)

    @property
    def fit(self) -> bool:
        """Whether RLM may keep its ledger here."""
        return not self.errors


def check_fitness(store: Store, *, allow_volatile: bool = False) -> Fitness:
    """Look at the Redis of `store` and return all that was found.

    With `allow_volatile` a Redis that does not keep an append-only file is a warning, no error.

    Raises:
        StoreUnreachableError: it cannot be reached.
        StoreError: it refuses the login.
    """
    client = store.client
    with translated(client):
        try:
            info = client.info()
        except redis.ResponseError as error:
            return Fitness((_silent(error),))
        sentinel = goes_by_sentinel(client)
        return judge(info, _settings(client), sentinel=sentinel, allow_volatile=allow_volatile)


def require_fit(store: Store, *, allow_volatile: bool = False) -> None:
    """Return if the Redis of `store` is fit.

    Raises:
        StoreUnfitError: it is not; the message says all that is wrong and the remedy of each.
        StoreError: it cannot be reached or refuses the login.
    """
    errors = check_fitness(store, allow_volatile=allow_volatile).errors
    if errors:
        lines = (f"- {found.message}: {found.remedy}" for found in errors)
        raise StoreUnfitError("\n".join(("this Redis could lose events or refuse them", *lines)))


def judge(
    info: Mapping[str, Any], settings: Mapping[str, str], *, sentinel: bool = False, allow_volatile: bool = False
) -> Fitness:
    """Judge what INFO says; `settings` is what CONFIG GET says of `SETTINGS`, empty where that is forbidden.

    `sentinel`: it was found by Sentinel, so another server may take its place.
    """
    return Fitness(
        (
            _version(info),
            _loading(info),
            _role(info),
            _cluster(info),
            _replicas(info, settings, sentinel=sentinel),
            _eviction(info),
            _memory(info),
            _persistence(info, settings, allow_volatile=allow_volatile),
            _sync(info, settings),
            _appending(info),
            _rewriting(info),
            _snapshots(info, settings),
        )
    )


def _settings(client: redis.Redis) -> dict[str, str]:
    try:
        return {name: str(client.config_get(name).get(name, "")) for name in SETTINGS}
    except redis.ResponseError:
        return {}


def _good(name: str, message: str) -> Finding:
    return Finding(name, ok=True, message=message)


def _bad(name: str, message: str, remedy: str, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(name, ok=False, message=message, remedy=remedy, severity=severity)


def _silent(error: redis.ResponseError) -> Finding:
    remedy = "allow the user of redis.url to ask (ACL SETUSER name +info)"
    return _bad("info", f"it does not say what it is ({error})", remedy)


def _version(info: Mapping[str, Any]) -> Finding:
    text = str(info["redis_version"])  # Valkey tells here which Redis it stands for
    shown = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {text}"
    if tuple(int(part) if part.isdecimal() else 0 for part in text.split(".")) >= OLDEST_VERSION:
        return _good("version", f"it is {shown}")
    oldest = ".".join(map(str, OLDEST_VERSION))
    return _bad("version", f"it is {shown}, older than {oldest}", "upgrade it, or use another")


def _loading(info: Mapping[str, Any]) -> Finding:
    if not info.get("loading"):
        return _good("loading", "it has read all its data")
    return _bad("loading", "it is still reading its data", "wait until it has, and try again")


def _role(info: Mapping[str, Any]) -> Finding:
    if info.get("role") == "master":
        return _good("role", "it takes writes")
    return _bad("role", "it is a replica, which takes no writes", "name its primary in redis.url")


def _cluster(info: Mapping[str, Any]) -> Finding:
    if not info.get("cluster_enabled"):
        return _good("cluster", "it is no cluster")
    remedy = "use a single server, or one with replicas behind Sentinel"
    return _bad("cluster", "it is a cluster, where one script cannot change keys on several nodes", remedy)


def _replicas(info: Mapping[str, Any], settings: Mapping[str, str], *, sentinel: bool) -> Finding:
    """Check that a primary that was cut off and replaced stops taking writes: otherwise there are two ledgers.

    Either setting turns it off with 0, see redis.conf.
    """
    if not sentinel and not int(info.get("connected_slaves", 0)):
        return _good("replicas", "it has no replica that could take its place while it goes on")
    least, lag = settings.get("min-replicas-to-write", ""), settings.get("min-replicas-max-lag", "")
    remedy = "set min-replicas-to-write to 1, and min-replicas-max-lag to fewer seconds than a failover takes"
    if not least or not lag:
        message = "whether it refuses writes once it is cut off from its replicas does not show (CONFIG GET)"
        remedy = f"see to it: {remedy}; with ACL SETUSER name +config|get this looks for itself"
        return _bad("replicas", message, remedy, Severity.WARNING)
    if int(least) and int(lag):
        return _good("replicas", f"it refuses writes {lag} s after it was cut off from its replicas")
    message = (
        "a primary that was cut off goes on taking writes beside the replica that took its place, so limits would be "
        f"used and events sent twice (min-replicas-to-write is {least}, min-replicas-max-lag {lag})"
    )
    return _bad("replicas", message, remedy, Severity.WARNING)


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return _good("eviction", "it evicts nothing")
    remedy = "set maxmemory-policy to noeviction"
    if not info.get("maxmemory"):
        message = f"it would evict keys if maxmemory were set (maxmemory-policy is {policy})"
        return _bad("eviction", message, remedy, Severity.WARNING)
    return _bad("eviction", f"it drops keys when its memory is full (maxmemory-policy is {policy})", remedy)


def _memory(info: Mapping[str, Any]) -> Finding:
    """Compare used memory with its bound: a full Redis refuses items, and the steps of events as well."""
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        return _good("memory", "its memory has no bound of its own (maxmemory is 0)")
    message = f"{used / most:.0%} of its memory is used (maxmemory {most:,} bytes)"
    if used <= FULL * most:
        return _good("memory", message)
    remedy = "raise maxmemory, or push more slowly: when it is full, items are refused and nothing is sent"
    return _bad("memory", message, remedy, Severity.WARNING)


def _persistence(info: Mapping[str, Any], settings: Mapping[str, str], *, allow_volatile: bool) -> Finding:
    if info.get("aof_enabled"):
        return _good("persistence", "it keeps an append-only file")
    message = (
        "it keeps nothing on disk, so a restart loses everything (appendonly is no, save is empty)"
        if settings.get("save") == ""
        else "it keeps snapshots at most, so a crash loses what came after the last (appendonly is no)"
    )
    severity = Severity.WARNING if allow_volatile else Severity.ERROR
    return _bad("persistence", message, "set appendonly to yes, or accept the loss with --allow-volatile", severity)


def _sync(info: Mapping[str, Any], settings: Mapping[str, str]) -> Finding:
    if not info.get("aof_enabled"):
        return _good("sync", "it has no append-only file to be late with")
    policy = settings.get("appendfsync", "unknown")
    if policy == "always":
        return _good("sync", "what it has accepted is on disk")
    if policy == "unknown":
        message = "whether a power cut may lose the last moments of what it has accepted does not show (CONFIG GET)"
        remedy = "see that appendfsync is always; with ACL SETUSER name +config|get this looks for itself"
        return _bad("sync", message, remedy, Severity.WARNING)
    message = f"a power cut may lose the last moments of what it has accepted (appendfsync is {policy})"
    return _bad("sync", message, "set appendfsync to always", Severity.WARNING)


def _appending(info: Mapping[str, Any]) -> Finding:
    if info.get("aof_last_write_status", "ok") == "ok":
        return _good("appending", "its last write to the append-only file succeeded")
    remedy = "read its log; make room on its disk"
    return _bad("appending", "it cannot write its append-only file, and refuses to take more", remedy)


def _rewriting(info: Mapping[str, Any]) -> Finding:
    if info.get("aof_last_bgrewrite_status", "ok") == "ok":
        return _good("rewriting", "it can shorten its append-only file")
    remedy = "read its log; give it disk and memory, and set vm.overcommit_memory to 1"
    return _bad("rewriting", "it cannot shorten its append-only file, which grows", remedy, Severity.WARNING)


def _snapshots(info: Mapping[str, Any], settings: Mapping[str, str]) -> Finding:
    if info.get("rdb_last_bgsave_status", "ok") == "ok":
        return _good("snapshots", "its last snapshot did not fail")
    remedy = "read its log; give it disk and memory, and set vm.overcommit_memory to 1"
    if settings.get("save") == "" or settings.get("stop-writes-on-bgsave-error") == "no":
        return _bad("snapshots", "its last snapshot failed", remedy, Severity.WARNING)
    return _bad("snapshots", "its snapshots fail, and it refuses writes until one succeeds (MISCONF)", remedy)
