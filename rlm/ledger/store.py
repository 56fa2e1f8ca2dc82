"""One store over one connection pool: everything that RLM keeps, in one part per subject."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple, Self

from rlm import SCHEMA
from rlm.core.endpoint import Endpoint, all_limited, in_force
from rlm.core.errors import StoreUnfitError, StoreUnreachableError
from rlm.core.text import safe_line
from rlm.ledger.calls import Calls
from rlm.ledger.connect import text, translated
from rlm.ledger.embedded import EmbeddedServer, running, url_of
from rlm.ledger.events import Ledger
from rlm.ledger.intake import Intake
from rlm.ledger.leases import Leases, Notes, Schedule
from rlm.ledger.letters import Letters
from rlm.ledger.processes import Processes
from rlm.ledger.rules import Rules, read_limits
from rlm.ledger.runs import Runs
from rlm.ledger.scripts import Access
from rlm.ledger.turns import Turns
from rlm.ledger.windows import Windows
from rlm.settings import Settings
from rlm.settings.secrets import EMBEDDED

#: The oldest Redis that has all commands of RLM's scripts.
OLDEST_VERSION = (6, 2)


class Flaw(NamedTuple):
    """One thing that makes a Redis unfit: it could lose events, or refuse them."""

    name: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.message}: {self.remedy}"


class Store(Access):
    """What RLM keeps in Redis; a context manager.

    Every method of it and its parts raises StoreError if Redis fails, and FencedError if `token` is no longer the
    lease's; then another conductor leads, and nothing was written.
    """

    leases = cached_property(Leases)
    schedule = cached_property(Schedule)
    processes = cached_property(Processes)
    letters = cached_property(Letters)
    intake = cached_property(lambda self: Intake(self, self.letters))
    ledger = cached_property(lambda self: Ledger(self, self.letters))
    turns = cached_property(Turns)
    rules = cached_property(Rules)
    runs = cached_property(Runs)
    calls = cached_property(Calls)
    windows = cached_property(Windows)
    notes = cached_property(Notes)

    def __init__(
        self, settings: Settings, url: str = "", *, keeps_server: bool = False, answer_seconds: float = 5.0
    ) -> None:
        """Use the Redis of `settings`, or another `url`.

        With `keeps_server`, which is for a long-running process, an embedded server runs while the store is open.
        """
        super().__init__(settings, url or url_in_use(settings), answer_seconds)
        self._is_embedded = self.url == url_of(settings.data_dir)
        self._server: EmbeddedServer | None = None
        if keeps_server and self._is_embedded:
            self._server = EmbeddedServer(settings.data_dir, settings.redis.embedded_port, self.keys.lease)

    def __enter__(self) -> Self:
        """Return this.

        Raises:
            StoreUnreachableError: the server is an embedded one, which does not run and is not kept.
            StoreError: it is kept and cannot be started.
        """
        if self._server is not None:
            self._server.__enter__()
        elif self._is_embedded and not running(self.settings.data_dir):
            what = f"the embedded server of {str(self.settings.data_dir)!r} does not run"
            if self.settings.data_dir.exists() and not os.statvfs(self.settings.data_dir).f_bavail:
                raise StoreUnreachableError(f"{what}: its disk is full", "make room there; RLM's processes start it")
            raise StoreUnreachableError(what, "`rlm up`, or any of its processes, or `rlm start --wait` starts it")
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.client.close()
        finally:
            if self._server is not None:
                self._server.__exit__(*exc)

    def require_fit(self, *, allow_volatile: bool = False, claim: bool = True) -> None:
        """Return if this Redis is fit; `claim`: then note the form in which this version keeps its keys.

        Raises:
            StoreUnfitError: it is not; the message names all flaws with their remedies.
            StoreError: it cannot be reached or refuses the login.
        """
        with translated(self.client, "INFO, by which RLM sees whether a Redis is fit"):
            flaws = [*judge(self.client.info(), allow_volatile=allow_volatile)]
        if flaws:
            raise StoreUnfitError("this Redis could lose events or refuse them", "; ".join(map(str, flaws)))
        self.require_schema(claim=claim)

    def require_schema(self, *, claim: bool = False) -> None:
        """Return if the keys have the form of this version, or there are none; then `claim` notes the form.

        Raises:
            StoreUnfitError: it has the form of another version.
        """
        raw = self.ask("HGET", self.keys.lease, "schema")
        if raw is None and claim and not self.ask("HSETNX", self.keys.lease, "schema", SCHEMA):
            raw = self.ask("HGET", self.keys.lease, "schema")  # another was faster
        if raw not in {None, b"%d" % SCHEMA}:
            prefix, other = self.settings.redis.prefix, safe_line(text(raw))
            raise StoreUnfitError(
                f"what is under the prefix {prefix} has the form {other} of another version; this rlm has {SCHEMA}",
                "use the rlm that wrote it; or stop its processes and carry over what is unsettled: its "
                "`rlm queue list --json`, piped into `rlm queue push` of this one with another redis.prefix",
            )

    def guarded(self) -> AbstractContextManager[None]:
        """Raise a StoreError if something that is read inside cannot be understood, so that no process ends by it."""
        return translated(self.client)

    def limits(self) -> dict[str, str]:
        """Return the limits in force as text, by the name of the endpoint or the budget."""
        limited = all_limited(self.settings.endpoints.values())
        return read_limits(self.ask(*self.rules.limits_command(limited)), limited)

    def endpoints(self, limits: Mapping[str, str] | None = None) -> dict[str, Endpoint]:
        """Return the endpoints in use by name, with the limits in force of them and of their budgets."""
        limits = self.limits() if limits is None else limits
        return {name: in_force(endpoint, limits) for name, endpoint in self.settings.endpoints.items()}


def url_in_use(settings: Settings) -> str:
    """Return the URL of the Redis of `settings`, which need not run."""
    return url_of(settings.data_dir) if settings.redis.url == EMBEDDED else settings.redis.url


def judge(info: Mapping[str, Any], *, allow_volatile: bool = False) -> Iterator[Flaw]:
    """Yield the flaws by the output of INFO, of which that it takes no writes is none: the first write says it."""
    version = str(info["redis_version"])  # for Valkey, the Redis version that it is compatible with
    if tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")) < OLDEST_VERSION:
        message = f"it is Redis {version}, older than {'.'.join(map(str, OLDEST_VERSION))}"
        yield Flaw("version", message, "use a newer one")
    if info.get("cluster_enabled"):
        message = "it is a Redis Cluster, where no script can reach both the audit list and RLM's keys"
        remedy = "use one primary with replicas and Sentinel (redis+sentinel://), see docs/operations.md"
        yield Flaw("cluster", message, remedy)
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction" and int(info.get("maxmemory", 0)):
        message = f"it drops keys when its memory is full (maxmemory-policy is {policy})"
        yield Flaw("eviction", message, "set maxmemory-policy to noeviction")
    if not info.get("aof_enabled") and not allow_volatile:
        message = "it keeps snapshots at most, so a crash loses what came after the last (appendonly is no)"
        remedy = "set appendonly to yes, or accept the loss with --allow-volatile"
        yield Flaw("persistence", message, remedy)
