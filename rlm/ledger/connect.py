"""How RLM reaches Redis: the client for a URL, which never sends a command twice, and the translation of errors."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from contextlib import ContextDecorator, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from rlm.core.errors import ConfigurationError, StoreGarbledError
from rlm.core.files import require_regular
from rlm.ledger.trouble import NAMES_IT, SOCKET_TIMEOUT_SECONDS, URL_SETTING, in_own_words, place
from rlm.settings.secrets import mask_url

#: URL parameters that name files to be read.
_CERTIFICATES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


_P = ParamSpec("_P")
_R = TypeVar("_R")

SENTINEL_PORT = 26379
#: The schemes of a URL that names sentinels; the second uses TLS for sentinels and primary.
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
#: How long connecting to a sentinel and its answer may take, seconds.
_SENTINEL_PATIENCE = {"socket_connect_timeout": 0.5, "socket_timeout": 1.0}
#: How long connecting may take. The next attempt comes sooner than the kernel would repeat a lost packet.
CONNECT_SECONDS = 1.0
#: A connection counts as cut after this many milliseconds without an acknowledgement by the host of Redis. A host still
#: acknowledges if its server is slow. Systems other than Linux lack this option and notice later.
_UNHEARD_MS = 2000
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (
        ("TCP_KEEPIDLE", 2),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", _UNHEARD_MS),
    )
    if hasattr(socket, name)
}
#: How names are decoded that may not be text: other bytes survive, and go back to Redis unchanged.
ESCAPED = "surrogateescape"
#: What reading a key may raise if it holds something that RLM does not write.
_UNREADABLE = (ValueError, LookupError, ArithmeticError, AttributeError, TypeError)
#: As the last argument of a command, it stands for the run id of the connection's server. The id is read once per
#: connection, because a restart of the server breaks all connections.
SERVER_ID = "the server of this connection"


def text(raw: bytes) -> str:
    """Return a name as text. Bytes that are not text survive, and go back to Redis unchanged."""
    return raw.decode(errors=ESCAPED)


class LedgerClient(redis.Redis):
    """A client that can do something else while it waits for a reply.

    It leaves the entries of a stream as they come, because making dictionaries of them is half of the time to read one.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_response_callback("XRANGE", _as_it_comes)

    def ask(self, *command: Any) -> Callable[[], Any]:
        """Send a command; return a function that waits for its reply and must be called exactly once in any case."""
        pool = self.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*command)  # type: ignore[no-untyped-call]
        except BaseException:
            pool.release(connection)
            raise

        def reply() -> Any:
            try:
                return self.parse_response(connection, command[0])  # type: ignore[no-untyped-call]
            finally:
                pool.release(connection)

        return reply


def make_client(url: str, *, socket_timeout: float = SOCKET_TIMEOUT_SECONDS) -> LedgerClient:
    """Make a client for `url`: redis://, rediss://, unix:// or redis+sentinel://host:port[,host:port]/service[/db].

    rediss+sentinel:// uses TLS for sentinels and primary. The client connects at the first command and waits
    `socket_timeout` seconds for an answer. If the answer is lost, it reports that and does not repeat the command as
    redis-py would, because the command may have been carried out.

    Raises:
        ConfigurationError: `url` names no Redis, or names a certificate that is not a file of a plausible size.
    """
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": min(socket_timeout, CONNECT_SECONDS),
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "redis_connect_func": _greet,
        "driver_info": None,  # otherwise redis-py reads its package files for each new connection
        "protocol": 2,  # the same replies from every version of redis-py, and no negotiation
    }
    by_tcp = {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    try:
        _check_certificates(url)
        if url.startswith(tuple(f"{scheme}://" for scheme in SENTINEL_SCHEMES)):
            return _sentinel_client(url, options | by_tcp)
        pool = redis.ConnectionPool.from_url(url, **options, **({} if url.startswith("unix://") else by_tcp))
        return cast("LedgerClient", LedgerClient.from_pool(pool))
    except ValueError:
        raise ConfigurationError(
            f"{URL_SETTING} {mask_url(url)!r} names no Redis; write redis://host:6379/0, rediss://, unix:///path "
            f"or {SENTINEL_SCHEMES[0]}://host:{SENTINEL_PORT},host:{SENTINEL_PORT}/service/0"
        ) from None  # the original message may quote part of the password


def _as_it_comes(reply: Any, **_options: Any) -> Any:
    return reply


def _sentinel_client(url: str, options: dict[str, Any]) -> LedgerClient:
    """Return a client that asks the sentinels of `url` for the primary whenever it connects. Raises ValueError."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    places = [urlsplit(f"//{host}") for host in hosts.split(",")]
    if not service or not all(place.hostname for place in places):
        raise ValueError("a service or a host is missing")
    by_tls = parts.scheme == SENTINEL_SCHEMES[1]
    parameters = dict(parse_qsl(parts.query))
    asked_by_tls = parameters.pop("sentinel_tls", "yes" if by_tls else "no") == "yes"
    asker = {name: value for name in ("username", "password") if (value := parameters.pop(f"sentinel_{name}", None))}
    shared = {name: value for name, value in options.items() if name != "redis_connect_func"}
    certificates = {name: value for name, value in parameters.items() if name.startswith("ssl_")}
    asking = shared | _SENTINEL_PATIENCE | _parsed("host", certificates, tls=asked_by_tls) | asker
    connecting = options | _parsed(f"{login}@host/{int(database or 0)}", parameters, tls=by_tls)
    sentinels: Any = Sentinel  # it has no types
    manager = sentinels([(place.hostname, place.port or SENTINEL_PORT) for place in places], sentinel_kwargs=asking)
    return cast("LedgerClient", manager.master_for(unquote(service), redis_class=LedgerClient, **connecting))


def _parsed(address: str, parameters: Mapping[str, str], *, tls: bool) -> dict[str, Any]:
    """Return the options that redis-py reads from such a URL, without the host."""
    url = f"{'rediss' if tls else 'redis'}://{address}?{urlencode(parameters)}"
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    return {name: value for name, value in options.items() if name not in {"host", "connection_class"}} | {"ssl": tls}


def _check_certificates(url: str) -> None:
    """Require certificates to be regular files, because a pipe would block. Missing files are reported elsewhere."""
    for name, value in parse_qsl(urlsplit(url).query):
        if name in _CERTIFICATES:
            with suppress(OSError):
                require_regular(Path(value))


def _greet(connection: Any) -> None:
    """Log in, and learn which server the connection leads to. Without the permission to ask, it gets no slots."""
    packer = connection._command_packer = _Packer()  # noqa: SLF001  # one for each connection
    connection.on_connect()
    connection.send_command("INFO", "server")
    with suppress(redis.ResponseError):
        match = re.search(rb"run_id:([0-9a-f]+)", connection.read_response())
        packer.server_id = match[1] if match else b""


class _Packer(HiredisRespSerializer):
    """Packs commands. A name decoded as `ESCAPED` is sent unchanged, and `SERVER_ID` is replaced by the id."""

    #: The run id of the connection's server, empty while unknown.
    server_id = b""

    def pack(self, *args: Any) -> Any:
        """Return the bytes to send."""
        if args[-1] is SERVER_ID:
            args = (*args[:-1], self.server_id)
        try:
            return super().pack(*args)
        except UnicodeEncodeError:
            raw: list[Any] = [value.encode(errors=ESCAPED) if isinstance(value, str) else value for value in args]
            return super().pack(*raw)


class translated(ContextDecorator):  # noqa: N801  # used as a verb
    """Translate redis-py's errors into RLM's, which name the Redis of `client` and the `script` that ran.

    Errors in reading an answer are translated too, because the key holds something that RLM does not write.

    Raises:
        StoreUnreachableError: it cannot be reached, or not yet; whether the command was carried out is not known.
        StoreGarbledError: a key holds an impossible value.
        FencedError: it refused a script because of its fencing token.
        StoreError: it refused.
    """

    def __init__(self, client: redis.Redis | None = None, script: str = "") -> None:
        self._client = client
        self._script = script

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, redis.RedisError):
            raise in_own_words(error, self._client, self._script) from error
        if isinstance(error, _UNREADABLE):
            what = f"{place(self._client)} holds what RLM cannot read ({type(error).__name__}: {error})"
            raise StoreGarbledError(what, NAMES_IT) from error


def translating(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a method that uses its `_client` raise RLM's errors, as `translated` does."""

    @wraps(method)
    def translate(*args: _P.args, **options: _P.kwargs) -> _R:
        part: Any = args[0]
        with translated(part._client):  # noqa: SLF001  # its class is one of the ledger's
            return method(*args, **options)

    return translate
