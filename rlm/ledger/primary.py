"""Finds the primary by asking the sentinels, and prevents connections to any other server.

One thread per sentinel listens for switches and asks now and then; together they ask once a second. As among sentinels,
the answer with the highest epoch decides. When another primary is named, or a fail-over begins, all connections of this
process to the old one are shut, even while an answer is awaited: the old primary may run for a second or two more, and
loses what it accepts then. A new connection is used only if its server says that it is a primary; a replica's primary
is followed.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import redis

from rlm.core.clock import system_clock
from rlm.ledger.client import HeedingConnection, HeedingTlsConnection, LeanPool, LedgerClient, NotNowError

SENTINEL_PORT = 26379
#: The schemes of a URL that names sentinels; the second uses TLS for sentinels and primary.
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
#: The time between two questions to sentinels, seconds.
LOOK_SECONDS = 1.0
#: How long connecting to a sentinel and its answer may take, seconds.
_PATIENCE = {"socket_connect_timeout": 0.5, "socket_timeout": 1.0}
#: The answer of a sentinel is forgotten if there is no newer one after this many seconds.
_FORGET_SECONDS = 30.0
#: The messages of a sentinel after it has replaced the primary, and just before it does.
_SWITCH = "+switch-master"
_BEGINS = "+failover-state-send-slaveof-noone"
#: How long the old primary is not used meanwhile, seconds, because a fail-over may be abandoned.
_LONGEST_SWITCH_SECONDS = 5.0
_REMEDY = "start the sentinels, or correct redis.url (or REDIS_URL)"


class Address(NamedTuple):
    """The address on which a server listens."""

    host: str
    port: int


class SentinelURL(msgspec.Struct, frozen=True):
    """The content of a sentinel URL: the sentinels, the service, and the options for them and for the primary."""

    scheme: str
    sentinels: tuple[Address, ...]
    service: str
    asking: Mapping[str, Any]
    connecting: Mapping[str, Any]

    @classmethod
    def read(cls, url: str) -> SentinelURL:
        """Return a parsed URL; raise ValueError if it is not a sentinel URL."""
        parts = urlsplit(url)
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError("a service is missing")
        sentinels = tuple(_address(place) for place in parts.netloc.rpartition("@")[2].split(","))
        options = dict(parse_qsl(parts.query))
        both = {name: value for name, value in options.items() if name.startswith("ssl_")}
        tls = parts.scheme == SENTINEL_SCHEMES[1]
        asked_by_tls = options.get("sentinel_tls", "yes" if tls else "no") == "yes"
        login = {"username": parts.username, "password": parts.password}
        connecting: dict[str, Any] = {name: unquote(value) for name, value in login.items() if value}
        connecting |= {name: float(options[name]) for name in _PATIENCE if name in options}
        asking: dict[str, Any] = {name: options[f"sentinel_{name}"] for name in login if f"sentinel_{name}" in options}
        asking |= both | {"connection_class": redis.SSLConnection} if asked_by_tls else {}
        connecting |= {"connection_class": _PrimaryTlsConnection if tls else _PrimaryConnection, "db": int(db or 0)}
        connecting |= both if tls else {}
        return cls(parts.scheme, sentinels, unquote(service), asking, connecting)

    @property
    def shown(self) -> str:
        """The sentinels and the service, without any login."""
        return f"{self.scheme}://{','.join(f'{host}:{port}' for host, port in self.sentinels)}/{self.service}"


def _address(place: str) -> Address:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return Address(parts.hostname, parts.port or SENTINEL_PORT)


class _Answer(NamedTuple):
    """What one sentinel said: the primary in the configuration of `epoch`, and when, in monotonic seconds.

    `over`: no fail-over is in progress; until its end the leading sentinel names the old primary with the new epoch.
    """

    epoch: int
    over: bool
    address: Address
    at: float


def sentinel_client(url: str, options: Mapping[str, Any]) -> LedgerClient:
    """Return a client of the primary that the sentinels of `url` name; `options` are redis-py's. Raises ValueError."""
    watch = PrimaryWatch.of(url, options)
    pool = LeanPool(**{**options, **watch.url.connecting, "watch": watch})
    watch.pools.add(pool)
    return LedgerClient(connection_pool=pool)


def watch_of(client: redis.Redis) -> PrimaryWatch | None:
    """Return the watch over the primary of `client`; None if it does not use Sentinel."""
    found: PrimaryWatch | None = client.connection_pool.connection_kwargs.get("watch")
    return found


class PrimaryWatch:
    """Knows the primary of a service. There is one per process and URL; its threads run while it has clients."""

    _all: dict[str, PrimaryWatch] = {}  # noqa: RUF012  # shared on purpose

    def __init__(self, url: SentinelURL, options: Mapping[str, Any]) -> None:
        self.url = url
        #: The pools whose connections are shut on a switch.
        self.pools: weakref.WeakSet[redis.ConnectionPool] = weakref.WeakSet()
        shared = {name: value for name, value in options.items() if name != "redis_connect_func"}
        asking = {**shared, **_PATIENCE, **url.asking}
        pools = (redis.ConnectionPool(host=host, port=port, **asking) for host, port in url.sentinels)
        self._clients = [redis.Redis(connection_pool=pool) for pool in pools]
        self._begin()

    def _begin(self) -> None:
        """Reset the state, without threads: at the start, and in a forked process."""
        self._lock = threading.RLock()
        self._threads: dict[int, threading.Thread] = {}
        self._answers: dict[int, _Answer] = {}
        self._named: Address | None = None
        self._followed: Address | None = None
        self._switching_until = 0.0
        #: Sockets on which a TLS handshake is under way, which belong to no connection yet.
        self.handshakes: set[socket.socket] = set()

    @classmethod
    def of(cls, url: str, options: Mapping[str, Any]) -> PrimaryWatch:
        """Return the watch for a URL; raise ValueError if it is not a sentinel URL."""
        return cls._all.get(url) or cls._all.setdefault(url, cls(SentinelURL.read(url), options))

    @classmethod
    def after_fork(cls) -> None:
        """Start over in a child process, because threads stay with the parent."""
        for one in cls._all.values():
            one._begin()  # noqa: SLF001  # its own class

    def primary(self) -> Address:
        """Return the address of the primary; raise NotNowError if no sentinel names one."""
        if self._named is None or len(self._threads) < len(self._clients):
            with self._lock:
                self._named = self._named or self._ask_all()
                for number in set(range(len(self._clients))).difference(self._threads):
                    thread = threading.Thread(target=self._listen, args=(number,), name="sentinel", daemon=True)
                    self._threads[number] = thread
                    thread.start()
        if self._is_switching():
            raise NotNowError("its sentinels are about to replace it", "wait")
        return self._followed or self._named

    def is_current(self, address: Address) -> bool:
        """Return whether the primary is still at `address`."""
        return address == (self._followed or self._named) and not self._is_switching()

    def _is_switching(self) -> bool:
        return system_clock.monotonic() < self._switching_until

    def follow(self, address: Address, primary: Address | None) -> None:
        """Record that the server at `address` is a replica of `primary`; None: it cannot be connected to.

        Sentinels notice a FAILOVER by others after half a minute. If `primary` leads nowhere, theirs is used again.
        """
        if self.is_current(address):
            self._followed = primary if self._followed is None else None
            if self._followed:
                self._cut()

    def _ask_all(self) -> Address:
        """Ask until more than half of the sentinels have answered, or all were asked; return the primary."""
        named, trouble = None, ""
        for number, (host, port) in enumerate(self.url.sentinels):
            try:
                named = self._ask(number)
            except redis.RedisError as error:
                trouble = f"; the one at {host}:{port} says: {error}"
            if len(self._answers) > len(self._clients) / 2:
                break
        if named is None:
            raise NotNowError(f"no sentinel names the primary of {self.url.service!r}{trouble}", _REMEDY)
        return named

    def _ask(self, number: int) -> Address:
        """Ask one sentinel; return the primary according to all recent answers."""
        state: Any = self._clients[number].sentinel_master(self.url.service)
        address, now = Address(state["ip"], int(state["port"])), system_clock.monotonic()
        over = "failover_in_progress" not in state["flags"].split(",")
        with self._lock:
            answers = {**self._answers, number: _Answer(int(state["config-epoch"]), over, address, now)}
            self._answers = {one: said for one, said in answers.items() if now - said.at <= _FORGET_SECONDS}
            named, used = max(self._answers.values()).address, self._followed or self._named
            if named != self._named:
                self._named, self._followed, self._switching_until = named, None, 0.0
                if used not in (None, named):
                    self._cut()
        return named

    def _cut(self) -> None:
        """Shut every connection; threads that wait for an answer get an error."""
        for pool in list(self.pools):
            with pool._lock:  # noqa: SLF001  # redis-py closes sockets only through objects that other threads use
                connections = [*pool._in_use_connections, *pool._available_connections]  # noqa: SLF001
            for one in connections:
                with suppress(TypeError, OSError):  # not connected
                    # The plain socket's method, because after that of TLS the reader would take the rest as plain text.
                    socket.socket.shutdown(one._sock, socket.SHUT_RDWR)  # noqa: SLF001
        for sock in list(self.handshakes):
            with suppress(OSError):  # it has just ended
                sock.shutdown(socket.SHUT_RDWR)

    def _listen(self, number: int) -> None:
        """Listen to one sentinel, and ask it now and then, while there are clients."""
        while self.pools:
            try:
                with self._clients[number].pubsub(ignore_subscribe_messages=True) as heard:  # type: ignore[no-untyped-call]
                    heard.subscribe(_SWITCH, _BEGINS)
                    while self.pools:
                        told = heard.get_message(timeout=LOOK_SECONDS * len(self._clients))
                        if told and told["channel"] == _BEGINS.encode():
                            self._stop(told["data"].decode().split())
                        self._ask(number)
            except redis.RedisError:
                system_clock.sleep(LOOK_SECONDS)
        self._clients[number].close()  # there is no client; a later one reconnects
        del self._threads[number]

    def _stop(self, told: Sequence[str]) -> None:
        """Stop using the primary of our service, because another is about to take its place."""
        if self.url.service in told:
            self._switching_until = system_clock.monotonic() + _LONGEST_SWITCH_SECONDS
            self._cut()


os.register_at_fork(after_in_child=PrimaryWatch.after_fork)


class _ToPrimary:
    """A connection that leads to the server that is the primary when it connects."""

    host: str
    port: int

    def __init__(self, *, watch: PrimaryWatch, **options: Any) -> None:
        self.watch = watch
        super().__init__(**options)

    def _connect(self) -> Any:
        self.host, self.port = address = self.watch.primary()
        try:
            return super()._connect()  # type: ignore[misc]
        except OSError:
            self.watch.follow(address, None)
            raise

    def require_primary(self, replication: bytes) -> None:
        """Raise NotNowError unless INFO shows a primary, and it is still the one to use."""
        address = Address(self.host, self.port)
        told = dict(re.findall(rb"(role|master_host|master_port):([^\r\n]+)", replication))
        if told.get(b"role") == b"slave":
            self.watch.follow(address, Address(told[b"master_host"].decode(), int(told[b"master_port"])))
            raise NotNowError(f"{self.host}:{self.port} is a replica", "wait: sentinels name its primary")
        if not self.watch.is_current(address):
            raise NotNowError(f"{self.host}:{self.port} is no longer the primary", "try again")


class _PrimaryConnection(_ToPrimary, HeedingConnection):
    """A connection by TCP."""


class _PrimaryTlsConnection(_ToPrimary, HeedingTlsConnection):
    """A connection by TLS. A hanging primary accepts but completes no handshake, so a switch ends handshakes too."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> Any:
        with sock.dup() as shared:  # wrapping detaches the original
            self.watch.handshakes.add(shared)
            try:
                return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
            finally:
                self.watch.handshakes.discard(shared)
