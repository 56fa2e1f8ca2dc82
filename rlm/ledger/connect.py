"""How RLM reaches Redis: the client for a URL, which never sends a command twice, and errors in RLM's own words."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from rlm.core import errors
from rlm.ledger.values import MICROSECONDS

#: The schemes of a URL that names sentinels; the second uses TLS for sentinels and primary.
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
#: As the last argument of a command that is asked, it stands for the run id of the server of the connection used.
SERVER_ID = "the server of this connection"
#: A connection counts as cut after two seconds without an acknowledgement by the host of Redis, which a host gives even
#: if its server is slow. Without this a host that vanished is noticed after `socket_timeout`, and by a silent
#: subscriber never.
_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 2,
    socket.TCP_KEEPINTVL: 1,
    socket.TCP_KEEPCNT: 2,
    socket.TCP_USER_TIMEOUT: 2000,
}
#: The errors of RLM: what each says and, by what the names of the classes of redis-py's error and its text may hold,
#: what to do; the first that fits counts. The words of a server stand anywhere in the text, because older ones wrap
#: errors of scripts.
_TROUBLES: dict[type[errors.StoreError], tuple[str, dict[str, str]]] = {
    errors.FencedError: ("says that another process leads, or that the run is no longer open", {"FENCED": ""}),
    errors.StoreForbiddenError: (
        "refuses the login or a command of RLM's user",
        {
            "Authentication|Authorization|NoPermission|NOPERM|ACL failure|WRONGPASS|NOAUTH": "correct user and "
            "password in redis.url (or REDIS_URL), and give that user the rights of docs/security.md"
        },
    ),
    errors.StoreRefusingError: (
        "cannot be used now",
        {
            "MISCONF": "make room on its disk; its log says what it cannot write",
            "OOM|OutOfMemory": "raise its `maxmemory`, or remove what other programs keep there",
            "READONLY|ReadOnly": "name its primary in redis.url (or REDIS_URL)",
            "NOREPLICAS": "bring its replicas back, or lower `min-replicas-to-write`",
            "DENIED": "give its user `default` a password, and name it in redis.url (or REDIS_URL)",
            "DB index": "name another database in redis.url (or REDIS_URL)",
            "LOADING|BusyLoading": "wait until it has read its data; its log says how far it is",
            "BUSY ": "a script of another program runs too long: `redis-cli SCRIPT KILL`",
            "MASTERDOWN|MasterDown|ClusterDown": "see its log",
        },
    ),
    errors.StoreUnreachableError: (
        "cannot be reached",
        {
            "max number of clients": "raise its `maxclients`, or end some of those that `redis-cli CLIENT LIST` shows",
            "name resolution": "see whether a resolver of this host's /etc/resolv.conf answers",
            "Name or service not known": "correct the name in redis.url (or REDIS_URL), or its DNS entry",
            "CERTIFICATE": "renew its certificate, or name its authority in redis.url (`ssl_ca_certs`)",
            "ConnectionError|TimeoutError": "start it, or correct redis.url (or REDIS_URL); RLM starts its embedded "
            "server again by itself, if its disk has room (`df`)",
        },
    ),
    errors.StoreGarbledError: (
        "holds what RLM does not write",
        {"WRONGTYPE|is not an integer|is not a valid float|attempt to |bad argument": "`rlm doctor` names the key"},
    ),
    errors.StoreError: ("refused a command", {"": ""}),
}


def text(raw: bytes) -> str:
    """Return a name as text. What is not text was not written by RLM, and only has to be shown."""
    return raw.decode(errors="replace")


class LedgerClient(redis.Redis):
    """A client that can keep a connection for a thread. `address` is where it connects to, without any login.

    It leaves the entries of a stream as they come, because making dictionaries of them is half of the time to read one.
    TIME is in microseconds since 1970.
    """

    address = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for command in ("XRANGE", "XREVRANGE"):
            self.set_response_callback(command, lambda reply, **_: reply)
        self.set_response_callback("TIME", lambda reply, **_: int(reply[0]) * MICROSECONDS + int(reply[1]))
        self._thread = threading.local()

    def ask(self, *command: Any) -> Any:
        """Send a command and return its reply: `execute_command` also measures and retries, for 12 of its 31 us."""
        own = getattr(self._thread, "connection", None)
        connection: Any = own or self.connection_pool.get_connection()
        try:
            connection.connect()  # its own one again, after a failure
            if command[-1] is SERVER_ID:
                command = (*command[:-1], connection.server_id)
            connection.send_command(*command)
            return connection.read_response()
        except exceptions.NoScriptError:
            raise
        except BaseException:
            # By Sentinel it stays open, and the next command would read this reply; and a server that refuses may have
            # been replaced by another.
            connection.disconnect()
            raise
        finally:
            if not own:
                self.connection_pool.release(connection)

    @contextmanager
    def keeping_connection(self) -> Iterator[None]:
        """Let `ask` keep one connection for this thread: the pool's part is 13 % of the processor time of a worker.

        The pool would see that the server closed it. Here the next command fails, and the one after it connects.
        """
        self._thread.connection = self.connection_pool.make_connection()
        try:
            yield
        finally:
            self._thread.__dict__.pop("connection").disconnect()


def make_client(url: str, *, socket_timeout: float | None = 5.0) -> LedgerClient:
    """Make a client for a checked `url`: redis://, rediss://, unix:// or redis+sentinel://host:port[,host:port]/service[/db].

    rediss+sentinel:// uses TLS for sentinels and primary. The client connects at the first command and waits
    `socket_timeout` seconds for an answer, for ever if that is None. If the answer is lost, it reports that and does
    not repeat the command as redis-py would, because the command may have been carried out.
    """
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": 1.0,  # the next attempt comes sooner than the kernel would repeat a lost packet
        "retry": Retry(NoBackoff(), 0),
        "redis_connect_func": _greet,
        "driver_info": None,  # otherwise redis-py reads its package files for each new connection
        "protocol": 2,  # the same replies from every version of redis-py, and no negotiation
    }
    if not url.startswith("unix://"):
        options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    parts = urlsplit(url)
    if parts.scheme in SENTINEL_SCHEMES:
        client = _sentinel_client(url, options)
    else:
        client = cast("LedgerClient", LedgerClient.from_url(url, **options))
    client.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return client


def _sentinel_client(url: str, options: dict[str, Any]) -> LedgerClient:
    """Return a client that asks the sentinels of `url` for the primary whenever it connects."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    places = [urlsplit(f"//{host}") for host in hosts.split(",")]
    parsed: Any = parse_url  # it has no types
    connecting = parsed(f"redis://{login}@/{int(database or 0)}?{parts.query}")
    connecting["ssl"] = parts.scheme == SENTINEL_SCHEMES[1]
    asking = {name: connecting.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    asking |= {name: value for name, value in connecting.items() if name.startswith("ssl")}
    asking |= {name: value for name, value in options.items() if name != "redis_connect_func"} | {"socket_timeout": 1.0}
    addresses = [(place.hostname, place.port or 26379) for place in places]
    sentinels: Any = Sentinel
    manager = sentinels(addresses, sentinel_kwargs=asking, **options | connecting)
    return cast("LedgerClient", manager.master_for(unquote(service), redis_class=LedgerClient))


def _greet(connection: Any) -> None:
    """Log in, and learn which server the connection leads to. Without the permission to ask, it gets no slots."""
    connection.on_connect()
    connection.server_id = b""
    connection.send_command("INFO", "server")
    with suppress(redis.ResponseError):
        match = re.search(rb"run_id:([0-9a-f]+)", connection.read_response())
        connection.server_id = match[1] if match else b""


@contextmanager
def translated(client: redis.Redis | None = None, doing: str = "") -> Iterator[None]:
    """Raise RLM's errors in place of redis-py's, of a statement or a function, with `client` and what it was `doing`.

    Errors in reading an answer are translated too, because the key holds something that RLM does not write.
    """
    try:
        yield
    except redis.RedisError as error:
        raise in_own_words(error, client, doing) from error
    except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError) as error:
        what = f"{_place(client)} holds what RLM cannot read ({type(error).__name__}: {error})"
        raise errors.StoreGarbledError(what, "`rlm doctor` names the key") from error


def in_own_words(error: redis.RedisError, client: redis.Redis | None, doing: str = "") -> errors.StoreError:
    """Return RLM's error for one of redis-py's, raised with `client` while it was `doing` something, such as a script.

    If the server cannot serve now, the idle connections are dropped: another may have taken its place meanwhile.
    """
    if client is not None and re.search("Broken pipe|Connection closed|Connection reset", str(error)):
        error = redis.ConnectionError(_farewell(client) or str(error))
    # redis-py may take the code of an error from its text, and make a class of it.
    described = f"{' '.join(each.__name__ for each in type(error).__mro__)} {error}"
    kind, what, remedy = next(
        (kind, what, remedy)
        for kind, (what, remedies) in _TROUBLES.items()
        for words, remedy in remedies.items()
        if re.search(rf"\b(?:{words})", described)
    )
    if kind is errors.StoreRefusingError and client is not None:
        client.connection_pool.disconnect(inuse_connections=False)
    what = f"{_place(client)} {what} ({error})".replace("No space left on device", "its disk is full")
    return kind(f"{doing}: {what}" if doing else what, remedy)


def _farewell(client: redis.Redis) -> str:
    """Return what a server says before it closes a new connection: why it takes none; empty if it says nothing."""
    facts = client.connection_pool.connection_kwargs
    is_local = "path" in facts
    place = facts["path"] if is_local else (facts.get("host", "localhost"), facts.get("port", 6379))
    with socket.socket(socket.AF_UNIX) if is_local else socket.socket() as connection, suppress(OSError):
        connection.settimeout(0.2)
        connection.connect(place)
        return connection.recv(200).decode(errors="replace").removeprefix("-ERR ").strip()
    return ""


def _place(client: redis.Redis | None) -> str:
    return f"Redis at {cast('LedgerClient', client).address}" if client else "Redis"
