"""How RLM reaches Redis: which one, by a client that never sends a command twice, with errors in RLM's own words."""

from __future__ import annotations

import re
import ssl
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, NoPermissionError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from rlm.core.errors import (
    ConfigurationError,
    StoreError,
    StoreForbiddenError,
    StoreGarbledError,
    StoreUnreachableError,
)
from rlm.core.files import require_regular
from rlm.ledger.embedded.files import is_own_socket
from rlm.ledger.embedded.process import HANGS_REMEDY
from rlm.ledger.embedded.server import EmbeddedServer
from rlm.ledger.keys import longest_bulk
from rlm.settings.secrets import EMBEDDED, mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rlm.settings import Settings

SENTINEL_SCHEME = "redis+sentinel"
SENTINEL_PORT = 26379
#: Parameters of a URL that name files which are read.
_CERTIFICATES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
#: Where a person says which Redis it is: the setting, and the variable that goes before it.
URL_SETTING = "redis.url (or REDIS_URL)"


_P = ParamSpec("_P")
_R = TypeVar("_R")

#: How long an answer is waited for if a caller sets no time of its own, seconds.
SOCKET_TIMEOUT_SECONDS = 5.0
#: How names are read that need not be text: other bytes survive, and go back to Redis unchanged.
ESCAPED = "surrogateescape"
#: Redis counts time in microseconds; so many are a second.
MICROSECONDS = 1_000_000
#: What to do about a key that holds what it cannot.
_NAMES_IT = "`rlm doctor` names the key; a scheduler sets it aside"
#: What reading a key raises if it holds something that RLM does not write there.
_UNREADABLE = (ValueError, LookupError, ArithmeticError, AttributeError, TypeError)
#: As the last argument of a command: the run id of the server that the connection leads to. It is read once for each
#: connection, since a restart of the server breaks them all.
SERVER_ID = "the server of this connection"


def text(raw: bytes) -> str:
    """Return a name as text. Bytes that are no text come through, and go back to Redis as they were."""
    return raw.decode(errors=ESCAPED)


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A Redis that others keep running."""

    url: str

    def revive(self) -> None:
        """Do nothing: others see to it."""


@contextmanager
def connected(settings: Settings) -> Iterator[EmbeddedServer | RemoteServer]:
    """Yield the server of `settings`; the embedded one is kept running meanwhile, and `revive` starts it again.

    Raises:
        StoreError: the embedded server cannot be started or stopped.
    """
    if settings.redis.url != EMBEDDED:
        yield RemoteServer(settings.redis.url)
        return
    longest = longest_bulk(settings.queue.max_item_bytes)
    with EmbeddedServer(settings.data_dir, settings.redis.embedded_port, longest) as server:
        yield server


def make_client(url: str, *, socket_timeout: float = SOCKET_TIMEOUT_SECONDS) -> redis.Redis:
    """Make a client for `url`: redis://, rediss://, unix:// or redis+sentinel://host:port[,host:port]/service[/db].

    It connects at the first command, waits `socket_timeout` seconds for an answer, and reports a lost one instead of
    sending the command again, which redis-py would do by itself: what was lost may have been carried out.

    Raises:
        ConfigurationError: `url` names no Redis, or as a certificate what is no file of a certificate's size.
    """
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": socket_timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "redis_connect_func": _greet,
        "driver_info": None,  # to name itself it would read the files of its package, anew for each connection
        "protocol": 2,  # the same replies from every version of redis-py, and no more to agree on when connecting
    }
    try:
        _check_certificates(url)
        if url.startswith(f"{SENTINEL_SCHEME}://"):
            return _sentinel_client(url, options)
        return redis.Redis.from_url(url, **options)
    except ValueError:
        raise ConfigurationError(
            f"{URL_SETTING} {mask_url(url)!r} names no Redis; write redis://host:6379/0, rediss://, unix:///path "
            f"or {SENTINEL_SCHEME}://host:{SENTINEL_PORT},host:{SENTINEL_PORT}/service/0"
        ) from None  # its message may quote a piece of the password


def _check_certificates(url: str) -> None:
    """Require certificates to be regular files: a pipe would block. A missing file is reported elsewhere."""
    for name, value in parse_qsl(urlsplit(url).query):
        if name in _CERTIFICATES:
            with suppress(OSError):
                require_regular(Path(value))


def _greet(connection: Any) -> None:
    """Log in, and learn which server the connection leads to; who may not know is given no slots."""
    packer = connection._command_packer = _Packer()  # noqa: SLF001  # each connection has its own
    connection.on_connect()
    connection.send_command("INFO", "server")
    with suppress(redis.ResponseError):
        found = re.search(rb"run_id:([0-9a-f]+)", connection.read_response())
        packer.server_id = found[1] if found else b""


class _Packer(HiredisRespSerializer):
    """Packs commands; a name that was read as `ESCAPED` is sent as it was, `SERVER_ID` as what it stands for."""

    #: The server that its connection leads to; empty, as long as that is not known.
    server_id = b""

    def pack(self, *args: Any) -> Any:
        """Return what goes over the wire."""
        if args[-1] is SERVER_ID:
            args = (*args[:-1], self.server_id)
        try:
            return super().pack(*args)
        except UnicodeEncodeError:
            raw: list[Any] = [one.encode(errors=ESCAPED) if isinstance(one, str) else one for one in args]
            return super().pack(*raw)


def _sentinel_client(url: str, options: dict[str, Any]) -> redis.Redis:
    """Ask the sentinels of `url` for the master at each connection; user and password are the master's."""
    parts = urlsplit(url)
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("a service is missing")
    sentinels = [_host_and_port(place) for place in parts.netloc.rpartition("@")[2].split(",")]
    login = {
        name: unquote(value) for name, value in (("username", parts.username), ("password", parts.password)) if value
    }
    asking = {name: value for name, value in options.items() if name != "redis_connect_func"}  # that is a connection's
    sentinel = Sentinel(sentinels, sentinel_kwargs=asking, **options, **login)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinel.master_for(unquote(service), db=int(db or 0))  # type: ignore[no-untyped-call]
    return client


def _host_and_port(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or SENTINEL_PORT


@contextmanager
def translated(client: redis.Redis | None = None) -> Iterator[None]:
    """Turn what redis-py raises into RLM's errors, which say where that Redis is if `client` is given.

    Errors from reading an answer are turned as well: the key holds something that RLM does not write.

    Raises:
        StoreUnreachableError: it cannot be reached, or not yet; whether the command was carried out is not known.
        StoreGarbledError: a key holds what it cannot.
        StoreError: it refused.
    """
    try:
        yield
    except redis.RedisError as error:
        raise _in_own_words(error, client) from error
    except _UNREADABLE as error:
        what = f"{place(client)} holds what RLM cannot read ({type(error).__name__}: {error})"
        raise StoreGarbledError(what, _NAMES_IT) from error


def translating(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a method that asks Redis by its `_client` raise RLM's errors, as `translated` does."""

    @wraps(method)
    def translate(*args: _P.args, **options: _P.kwargs) -> _R:
        part: Any = args[0]
        with translated(part._client):  # noqa: SLF001  # its class is one of the ledger's
            return method(*args, **options)

    return translate


def _in_own_words(error: redis.RedisError, client: redis.Redis | None) -> StoreError:
    where = place(client)
    if isinstance(error, AuthenticationError | AuthorizationError):
        return StoreError(f"{where} refuses the login ({error})", f"correct user and password in {URL_SETTING}")
    if isinstance(error, NoPermissionError):
        return forbidden(where, error)
    if isinstance(error, BusyLoadingError):
        return StoreUnreachableError(f"{where} is still loading its data", "wait and try again")
    if not isinstance(error, redis.ConnectionError | redis.TimeoutError):
        what = f"{where} refused a command: {error}"
        return StoreGarbledError(what, _NAMES_IT) if "WRONGTYPE" in str(error) else StoreError(what)
    if (distrust := _distrust(error)) is not None:
        remedy = (
            "name the CA that signed its certificate with "
            f"ssl_ca_certs=/path/to/ca.pem in {URL_SETTING}, and a host that stands in the certificate"
        )
        return StoreUnreachableError(f"{where} cannot be trusted ({distrust.verify_message})", remedy)
    remedy = f"start it, or correct {URL_SETTING}"
    if client and _is_embedded(client):
        remedy = "it is the embedded server, which RLM starts again by itself"
        if isinstance(error, redis.TimeoutError):  # it lives
            remedy = f"it is the embedded server, and hangs: {HANGS_REMEDY}"
    facts = client.connection_pool.connection_kwargs if client else {}
    patience = facts.get("socket_timeout") or SOCKET_TIMEOUT_SECONDS
    waited_seconds = patience if isinstance(error, redis.TimeoutError) else 0.0
    return StoreUnreachableError(f"{where} cannot be reached ({error})", remedy, waited_seconds)


def names_of(client: redis.Redis, pattern: str) -> list[str]:
    """Find the keys of a pattern by SCAN; if the user may not use that, by KEYS, which blocks everybody else."""
    try:
        found = list(client.scan_iter(match=pattern, count=1000))
    except redis.ResponseError as error:
        if not is_forbidden(error):
            raise
        found = cast("list[bytes]", client.keys(pattern))
    return sorted({text(one) for one in found})


def place(client: redis.Redis | None) -> str:
    """Name the Redis of `client` at the beginning of a message."""
    return f"Redis at {address(client)}" if client else "Redis"


def forbidden(where: str, error: redis.ResponseError) -> StoreForbiddenError:
    """Return the error for a user of `redis.url` who lacks a right that RLM needs."""
    remedy = f"give the user of {URL_SETTING} the rights that docs/security.md lists for RLM's user"
    return StoreForbiddenError(f"{where} does not allow RLM what it needs ({error})", remedy)


def _is_embedded(client: redis.Redis) -> bool:
    path = client.connection_pool.connection_kwargs.get("path")
    return path is not None and is_own_socket(Path(path))


def is_forbidden(error: Exception) -> bool:
    """Return whether Redis refused a command because of who asked. For scripts only its words tell."""
    return isinstance(error, NoPermissionError) or "ACL failure" in str(error) or "NOPERM" in str(error)


def _distrust(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Find the refusal of a server's certificate behind an error, which redis-py keeps as its context."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def goes_by_sentinel(client: redis.Redis) -> bool:
    """Return whether `client` asks Sentinel which server is the primary."""
    return isinstance(client.connection_pool, SentinelConnectionPool)


def address(client: redis.Redis) -> str:
    """Return where `client` connects to, without any login."""
    pool = client.connection_pool
    facts = pool.connection_kwargs
    if isinstance(pool, SentinelConnectionPool):
        sentinels = (sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels)
        places = ",".join(f"{facts['host']}:{facts['port']}" for facts in sentinels)
        return f"{SENTINEL_SCHEME}://{places}/{pool.service_name}"
    if "path" in facts:
        return f"unix://{facts['path']}"
    scheme = "rediss" if issubclass(pool.connection_class, redis.SSLConnection) else "redis"
    return f"{scheme}://{facts.get('host', 'localhost')}:{facts.get('port', 6379)}/{facts.get('db', 0)}"
