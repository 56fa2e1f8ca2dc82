"""Which server is the primary, by what the sentinels say, and no connection to any other.

A thread for each sentinel listens there for a switch and asks it now and then, so that one of them is asked a second.
What the highest epoch names is the primary: that is how sentinels agree among themselves. On a switch every connection
of this process to the server before is shut at once, also where an answer is waited for, and when a fail-over begins as
well: the old primary may go on for a second or two, and what it takes then is lost. A new connection is used only if
its server says that it is a primary; one that follows another leads there.
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
#: By which a URL names sentinels; with the second one sentinels and primary are spoken to by TLS.
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
#: How often one of the sentinels is asked, seconds.
LOOK_SECONDS = 1.0
#: How long a sentinel may take to be connected to, and to answer, seconds.
_PATIENCE = {"socket_connect_timeout": 0.5, "socket_timeout": 1.0}
#: The answer of a sentinel that was not heard of since is forgotten after this many seconds.
_FORGET_SECONDS = 30.0
#: What a sentinel says when another primary is in its place, and just before it puts it there.
_SWITCH = "+switch-master"
_BEGINS = "+failover-state-send-slaveof-noone"
#: How long nothing goes to the old primary meanwhile, seconds: a fail-over may be given up.
_LONGEST_SWITCH_SECONDS = 5.0
_REMEDY = "start the sentinels, or correct redis.url (or REDIS_URL)"


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class SentinelURL(msgspec.Struct, frozen=True):
    """What a URL of sentinels says: who is asked for which service, and how they and the primary are spoken to."""

    scheme: str
    sentinels: tuple[Address, ...]
    service: str
    asking: Mapping[str, Any]
    connecting: Mapping[str, Any]

    @classmethod
    def read(cls, url: str) -> SentinelURL:
        """Read it. Raises ValueError if it is none."""
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
    """What one sentinel said: the primary by the configuration of `epoch`; when, in monotonic seconds.

    One that leads a fail-over names the old primary until its end, though the epoch is the new one by then: `over`.
    """

    epoch: int
    over: bool
    address: Address
    at: float


def sentinel_client(url: str, options: Mapping[str, Any]) -> LedgerClient:
    """Make a client of the primary that the sentinels of `url` name, or raise ValueError; `options` are redis-py's."""
    watch = PrimaryWatch.of(url, options)
    pool = LeanPool(**{**options, **watch.url.connecting, "watch": watch})
    watch.pools.add(pool)
    return LedgerClient(connection_pool=pool)


def watch_of(client: redis.Redis) -> PrimaryWatch | None:
    """Return what watches over the primary of `client`; None if it does not go by Sentinel."""
    found: PrimaryWatch | None = client.connection_pool.connection_kwargs.get("watch")
    return found


class PrimaryWatch:
    """Knows which server is the primary of a service. One a process and URL, with threads while it has clients."""

    _all: dict[str, PrimaryWatch] = {}  # noqa: RUF012  # shared on purpose

    def __init__(self, url: SentinelURL, options: Mapping[str, Any]) -> None:
        self.url = url
        #: Those whose connections are shut on a switch.
        self.pools: weakref.WeakSet[redis.ConnectionPool] = weakref.WeakSet()
        shared = {name: value for name, value in options.items() if name != "redis_connect_func"}
        asking = {**shared, **_PATIENCE, **url.asking}
        pools = (redis.ConnectionPool(host=host, port=port, **asking) for host, port in url.sentinels)
        self._clients = [redis.Redis(connection_pool=pool) for pool in pools]
        self._begin()

    def _begin(self) -> None:
        """Know nothing, and have no thread: at the start, and in a process that was forked."""
        self._lock = threading.RLock()
        self._threads: dict[int, threading.Thread] = {}
        self._answers: dict[int, _Answer] = {}
        self._named: Address | None = None
        self._followed: Address | None = None
        self._switching_until = 0.0
        #: The sockets on which a handshake of TLS is under way. No connection has such a one yet.
        self.handshakes: set[socket.socket] = set()

    @classmethod
    def of(cls, url: str, options: Mapping[str, Any]) -> PrimaryWatch:
        """Return the watch of a URL. Raises ValueError if it is no URL of sentinels."""
        return cls._all.get(url) or cls._all.setdefault(url, cls(SentinelURL.read(url), options))

    @classmethod
    def after_fork(cls) -> None:
        """Begin anew in a child: threads stay with the parent."""
        for one in cls._all.values():
            one._begin()  # noqa: SLF001  # its own class

    def primary(self) -> Address:
        """Return where the primary is. Raises NotNowError if no sentinel says."""
        if self._named is None or len(self._threads) < len(self._clients):
            with self._lock:
                self._named = self._named or self._ask_all()
                for number in set(range(len(self._clients))).difference(self._threads):
                    thread = threading.Thread(target=self._listen, args=(number,), name="sentinel", daemon=True)
                    self._threads[number] = thread
                    thread.start()
        if self._is_switching():
            raise NotNowError("its sentinels are about to put another in its place", "wait")
        return self._followed or self._named

    def is_current(self, address: Address) -> bool:
        """Return whether the primary is still at `address`."""
        return address == (self._followed or self._named) and not self._is_switching()

    def _is_switching(self) -> bool:
        return system_clock.monotonic() < self._switching_until

    def follow(self, address: Address, primary: Address | None) -> None:
        """Note that the server at `address` is a replica of `primary`; None: it cannot be connected to.

        Sentinels see it after half a minute (a FAILOVER not theirs). What they name is tried again if it leads nowhere.
        """
        if self.is_current(address):
            self._followed = primary if self._followed is None else None
            if self._followed:
                self._cut()

    def _ask_all(self) -> Address:
        """Ask until more than half have answered, or all were asked; return the primary."""
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
        """Ask one sentinel; return the primary by all that they said lately."""
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
        """Shut every connection; whoever waits for an answer there gets an error now."""
        for pool in list(self.pools):
            with pool._lock:  # noqa: SLF001  # redis-py closes sockets only by objects that other threads are using
                connections = [*pool._in_use_connections, *pool._available_connections]  # noqa: SLF001
            for one in connections:
                with suppress(TypeError, OSError):  # it is not connected
                    # The method of a plain socket: that of TLS would have the reader take what is left for plain text.
                    socket.socket.shutdown(one._sock, socket.SHUT_RDWR)  # noqa: SLF001
        for sock in list(self.handshakes):
            with suppress(OSError):  # it has just ended
                sock.shutdown(socket.SHUT_RDWR)

    def _listen(self, number: int) -> None:
        """Listen to one sentinel, and ask it now and then, for as long as somebody has a client."""
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
        self._clients[number].close()  # nobody has a client: whoever comes next connects anew
        del self._threads[number]

    def _stop(self, told: Sequence[str]) -> None:
        """Send nothing to the primary any more, if it is that of our service: another is about to take its place."""
        if self.url.service in told:
            self._switching_until = system_clock.monotonic() + _LONGEST_SWITCH_SECONDS
            self._cut()


os.register_at_fork(after_in_child=PrimaryWatch.after_fork)


class _ToPrimary:
    """A connection that leads to the primary, wherever that is at the moment it connects."""

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
        """Return if the server is a primary by its INFO, and still the one to be used. Raises NotNowError if not."""
        address = Address(self.host, self.port)
        told = dict(re.findall(rb"(role|master_host|master_port):([^\r\n]+)", replication))
        if told.get(b"role") == b"slave":
            self.watch.follow(address, Address(told[b"master_host"].decode(), int(told[b"master_port"])))
            raise NotNowError(f"{self.host}:{self.port} is a replica", "wait: sentinels name its primary")
        if not self.watch.is_current(address):
            raise NotNowError(f"{self.host}:{self.port} is no longer the primary", "try again")


class _PrimaryConnection(_ToPrimary, HeedingConnection):
    """By TCP."""


class _PrimaryTlsConnection(_ToPrimary, HeedingTlsConnection):
    """By TLS. A primary that stands still accepts, but answers no handshake: a switch ends that as well."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> Any:
        with sock.dup() as shared:  # the one that is wrapped changes hands
            self.watch.handshakes.add(shared)
            try:
                return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
            finally:
                self.watch.handshakes.discard(shared)
