"""Trouble with Redis: translation of redis-py's errors, and what a process does while Redis is away.

It logs the trouble now and then, and restarts an embedded server.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, NoPermissionError
from redis.sentinel import MasterNotFoundError, SentinelConnectionPool

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import (
    FencedError,
    StoreError,
    StoreForbiddenError,
    StoreGarbledError,
    StoreLoadingError,
    StoreRefusingError,
    StoreUnfitError,
    StoreUnreachableError,
)
from rlm.ledger.embedded.files import is_own_socket
from rlm.ledger.embedded.process import HANGS_REMEDY
from rlm.ledger.refusals import CLUSTER_REMEDY, is_cluster, refusal_of

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: Where people configure the Redis: the setting, and the variable that overrides it.
URL_SETTING = "redis.url (or REDIS_URL)"
#: How long to wait for an answer if the caller sets no time, seconds.
SOCKET_TIMEOUT_SECONDS = 5.0


#: The remedy for a key with an invalid value.
NAMES_IT = "`rlm doctor` names the key"


def in_own_words(error: redis.RedisError, client: redis.Redis | None, script: str = "") -> StoreError:
    """Return RLM's error for one of redis-py's, raised with `client` and, if named, by a `script`.

    If the server cannot serve now, the kept connections are dropped: another may have taken its place meanwhile.
    """
    where = place(client)
    if (refusal := refusal_of(error)) is not None:
        if client is not None:
            client.connection_pool.disconnect(inuse_connections=False)
        return StoreRefusingError(f"{where} cannot be used now: {refusal.meaning} ({refusal.word})", refusal.remedy)
    if script and isinstance(error, redis.ResponseError) and not is_cluster(error):
        return _refused_script(error, script, where)
    if isinstance(error, BusyLoadingError):
        return StoreLoadingError(f"{where} is still loading its data", "wait and try again")
    if (refused := _refused(error, where)) is not None:
        return refused
    if (distrust := _distrust(error)) is not None:
        remedy = f"name the CA that signed its certificate with ssl_ca_certs=/path/to/ca.pem in {URL_SETTING}"
        remedy = f"{remedy}, and a host that is in the certificate"
        return StoreUnreachableError(f"{where} cannot be trusted ({distrust.verify_message})", remedy)
    facts, is_silent = client.connection_pool.connection_kwargs if client else {}, isinstance(error, redis.TimeoutError)
    what = "the sentinels" if isinstance(error, MasterNotFoundError) else "it"
    remedy = f"start {what}, or correct {URL_SETTING}"
    if (path := facts.get("path")) is not None and is_own_socket(Path(path)):
        then = f"and hangs: {HANGS_REMEDY}" if is_silent else "which RLM starts again by itself"
        remedy = f"it is the embedded server, {then}"
    waited_seconds = (facts.get("socket_timeout") or SOCKET_TIMEOUT_SECONDS) if is_silent else 0.0
    return StoreUnreachableError(f"{where} cannot be reached ({error})", remedy, waited_seconds)


def _refused(error: redis.RedisError, where: str) -> StoreError | None:
    """Return the error for a refusal; None if Redis could not be asked."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return StoreError(f"{where} refuses the login ({error})", f"correct user and password in {URL_SETTING}")
    if isinstance(error, NoPermissionError):
        return _forbidden(where, error)
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return None
    if is_cluster(error):
        return StoreUnfitError(f"{where} is a node of a Redis Cluster, which RLM does not work with", CLUSTER_REMEDY)
    what = f"{where} refused a command: {error}"
    return StoreGarbledError(what, NAMES_IT) if _is_garbled(error) else StoreError(what)


def _refused_script(error: redis.ResponseError, script: str, where: str) -> StoreError:
    if "FENCED" in str(error):
        return FencedError(
            f"{script}: another process holds the lease by now, or the lease is gone, or that run is no longer open"
        )
    if _is_forbidden(error):
        return _forbidden(f"{script}: {where}", error)
    what = f"{script}: {where} refused it: {error}"
    return StoreGarbledError(what, NAMES_IT) if _is_garbled(error) else StoreError(what)


def _is_garbled(error: Exception) -> bool:
    """Return whether a key holds something that a command or script does not expect."""
    return (
        re.search(r"WRONGTYPE|is not an integer|is not a valid float|attempt to |bad argument", str(error)) is not None
    )


def place(client: redis.Redis | None) -> str:
    """Return the name of the Redis of `client` for the beginning of a message."""
    return f"Redis at {address(client)}" if client else "Redis"


def _forbidden(where: str, error: redis.ResponseError) -> StoreForbiddenError:
    remedy = f"give the user of {URL_SETTING} the rights that docs/security.md lists for RLM's user"
    return StoreForbiddenError(f"{where} does not give RLM the rights it needs ({error})", remedy)


def _is_forbidden(error: Exception) -> bool:
    """Return whether Redis refused a command because of the user. For scripts only the message shows that."""
    return isinstance(error, NoPermissionError) or "ACL failure" in str(error) or "NOPERM" in str(error)


def _distrust(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the rejection of a server's certificate behind an error; redis-py keeps it as the context."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def address(client: redis.Redis) -> str:
    """Return the address to which `client` connects, without any login."""
    pool = client.connection_pool
    scheme = "rediss" if issubclass(pool.connection_class, redis.SSLConnection) else "redis"
    if isinstance(pool, SentinelConnectionPool):
        asked = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
        places = ",".join(f"{facts['host']}:{facts['port']}" for facts in asked)
        return f"{scheme}+sentinel://{places}/{pool.service_name}"
    facts = pool.connection_kwargs
    if "path" in facts:
        return f"unix://{facts['path']}"
    return f"{scheme}://{facts.get('host', 'localhost')}:{facts.get('port', 6379)}/{facts.get('db', 0)}"


#: Minimum seconds between log lines that Redis is away.
TOLD_SECONDS = 5.0
#: A restarted server is back sooner than this, seconds. After that somebody must look.
LASTING_SECONDS = 5.0

log = logging.getLogger(__name__)


def revive(store: Store) -> None:
    """Restart the embedded server if it has died; do nothing for any other Redis."""
    try:
        store.revive()
    except StoreError as error:
        if system_clock.monotonic() >= store.told_until:  # not in each turn of a loop
            store.told_until = system_clock.monotonic() + TOLD_SECONDS
            told, extra = "The embedded server cannot be started again: %s", alarm(Alarm.REDIS_AWAY, "revive")
            log.error(told, error, extra=extra)  # noqa: TRY400  # the message is sufficient


class Outage:
    """One process's trouble with Redis, from the first failed command to the first success after it."""

    def __init__(self, log: logging.Logger, action: str, *, lasting_seconds: float = LASTING_SECONDS) -> None:
        """Report it to `log` as trouble with `action`, and as an alarm once it has lasted `lasting_seconds`."""
        self._log = log
        self._action = action
        self._lasting_seconds = lasting_seconds
        self._since: float | None = None
        self._told_until = float("-inf")

    def tell(self, error: StoreError, then: str, **facts: str) -> None:
        """Log that Redis failed and what happens `then`, at most every `TOLD_SECONDS`."""
        now = system_clock.monotonic()
        self._since = now - error.waited_seconds if self._since is None else self._since
        if now < self._told_until:
            return
        self._told_until = now + TOLD_SECONDS
        lasted = now - self._since
        if lasted < self._lasting_seconds:
            # A value that cannot be read may be a bug in RLM, which only the traceback shows.
            traceback = isinstance(error, StoreGarbledError)
            extra: Mapping[str, object] = {"action": self._action, **facts}
            self._log.warning("Redis failed; %s: %s", then, error, exc_info=traceback, extra=extra)
        else:
            extra = alarm(Alarm.REDIS_AWAY, self._action, counts={"seconds": round(lasted, 1)}, **facts)
            self._log.error("Redis has been failing for %.0f s; %s: %s", lasted, then, error, extra=extra)

    def over(self) -> float:
        """Record that Redis answered. If it had failed, log and return for how many seconds."""
        if self._since is None:
            return 0.0
        lasted = system_clock.monotonic() - self._since
        self._log.info("Redis answers again, after %.1f s", lasted, extra={"action": self._action})
        self._since = None
        return lasted
