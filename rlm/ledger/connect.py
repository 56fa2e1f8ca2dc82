"""How RLM reaches Redis: which one, by a client that never sends a command twice, with errors in RLM's own words."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import ContextDecorator, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qsl, urlsplit

import redis
from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry

from rlm.core.errors import ConfigurationError, StoreGarbledError
from rlm.core.files import require_regular
from rlm.ledger.client import LedgerClient, Replicas, heed
from rlm.ledger.primary import SENTINEL_PORT, SENTINEL_SCHEMES, sentinel_client
from rlm.ledger.trouble import NAMES_IT, SOCKET_TIMEOUT_SECONDS, URL_SETTING, in_own_words, place
from rlm.settings.secrets import mask_url

#: Parameters of a URL that name files which are read.
_CERTIFICATES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


_P = ParamSpec("_P")
_R = TypeVar("_R")

#: How long a connection may take. The next try begins sooner than the kernel would repeat a packet that was lost.
CONNECT_SECONDS = 1.0
#: After this time without an acknowledgement by the host of Redis, milliseconds, a connection counts as cut: a server
#: that is merely slow has its host acknowledge. Systems other than Linux have no such option, and notice later.
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
#: How names are read that need not be text: other bytes survive, and go back to Redis unchanged.
ESCAPED = "surrogateescape"
#: Redis counts time in microseconds; so many are a second.
MICROSECONDS = 1_000_000
#: What reading a key raises if it holds something that RLM does not write there.
_UNREADABLE = (ValueError, LookupError, ArithmeticError, AttributeError, TypeError)
#: As the last argument of a command: the run id of the server that the connection leads to. It is read once for each
#: connection, since a restart of the server breaks them all.
SERVER_ID = "the server of this connection"


def text(raw: bytes) -> str:
    """Return a name as text. Bytes that are no text come through, and go back to Redis as they were."""
    return raw.decode(errors=ESCAPED)


def make_client(
    url: str, *, socket_timeout: float = SOCKET_TIMEOUT_SECONDS, replicas: Replicas | None = None
) -> redis.Redis:
    """Make a client for `url`: redis://, rediss://, unix:// or redis+sentinel://host:port[,host:port]/service[/db].

    With rediss+sentinel:// sentinels and primary are spoken to by TLS. It connects at the first command, waits
    `socket_timeout` seconds for an answer, and reports a lost one instead of sending the command again, which redis-py
    would do by itself: what was lost may have been carried out. What lasts is waited for on so many `replicas`.

    Raises:
        ConfigurationError: `url` names no Redis, or as a certificate what is no file of a certificate's size.
    """
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": min(socket_timeout, CONNECT_SECONDS),
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "redis_connect_func": _greet,
        "driver_info": None,  # to name itself it would read the files of its package, anew for each connection
        "protocol": 2,  # the same replies from every version of redis-py, and no more to agree on when connecting
    }
    by_tcp = {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    try:
        _check_certificates(url)
        if url.startswith(tuple(f"{scheme}://" for scheme in SENTINEL_SCHEMES)):
            client = sentinel_client(url, options | by_tcp)
        else:
            client = LedgerClient.from_url(url, **options, **({} if url.startswith("unix://") else by_tcp))
            heed(client.connection_pool)
    except ValueError:
        raise ConfigurationError(
            f"{URL_SETTING} {mask_url(url)!r} names no Redis; write redis://host:6379/0, rediss://, unix:///path "
            f"or {SENTINEL_SCHEMES[0]}://host:{SENTINEL_PORT},host:{SENTINEL_PORT}/service/0"
        ) from None  # its message may quote a piece of the password
    client.replicas = replicas
    return client


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
    if primary := hasattr(connection, "require_primary"):  # it was found by Sentinel
        connection.send_packed_command(connection.pack_commands([("INFO", "server"), ("INFO", "replication")]))
    else:
        connection.send_command("INFO", "server")
    with suppress(redis.ResponseError):
        found = re.search(rb"run_id:([0-9a-f]+)", connection.read_response())
        packer.server_id = found[1] if found else b""
    if primary:
        with suppress(redis.ResponseError):
            connection.require_primary(connection.read_response())


class _Packer(HiredisRespSerializer):
    """Packs commands; a name that was read as `ESCAPED` is sent as it was, `SERVER_ID` as what it stands for."""

    #: The server that its connection leads to; empty, as long as that is not known.
    server_id = b""

    def pack(self, *args: Any) -> Any:
        """Return what goes over the wire."""
        if args[-1] is SERVER_ID:
            args = (*args[:-1], self.server_id)
        try:
            return [pack_command(args)] if args[0] == "EVALSHA" else super().pack(*args)  # which looks at each argument
        except UnicodeEncodeError:
            raw: list[Any] = [one.encode(errors=ESCAPED) if isinstance(one, str) else one for one in args]
            return super().pack(*raw)


class translated(ContextDecorator):  # noqa: N801  # it is used as a verb
    """Turn what redis-py raises into RLM's errors, which say where the Redis of `client` is, and which `script` it ran.

    Errors from reading an answer are turned as well: the key holds something that RLM does not write.

    Raises:
        StoreUnreachableError: it cannot be reached, or not yet; whether the command was carried out is not known.
        StoreGarbledError: a key holds what it cannot.
        FencedError: it refused a script for its fencing token.
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
    """Make a method that asks Redis by its `_client` raise RLM's errors, as `translated` does."""

    @wraps(method)
    def translate(*args: _P.args, **options: _P.kwargs) -> _R:
        part: Any = args[0]
        with translated(part._client):  # noqa: SLF001  # its class is one of the ledger's
            return method(*args, **options)

    return translate
