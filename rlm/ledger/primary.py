"""Which server is the primary, by what the sentinels say, and no connection to any other.

One thread a process listens at a sentinel for a switch and asks one sentinel after the other, one a second. What the
highest epoch names is the primary: that is how sentinels agree among themselves. On a switch every connection of this
process to the server before is shut at once, also where an answer is waited for. A new connection is used only if its
server says that it is a primary; one that follows another leads there.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from rlm.core.clock import system_clock
from rlm.ledger.refusals import HeedingConnection, HeedingTlsConnection, NotNowError
from rlm.ledger.sentinel import Address, SentinelURL

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How often one of the sentinels is asked, seconds.
LOOK_SECONDS = 1.0
#: How long a sentinel may take to be connected to, and to answer, seconds.
_CONNECT_SECONDS = 0.5
_ANSWER_SECONDS = 1.0
#: The answer of a sentinel that was not heard of since is forgotten after this many seconds.
_FORGET_SECONDS = 30.0
_SWITCH = "+switch-master"
_REMEDY = "start the sentinels, or correct redis.url (or REDIS_URL)"


class _Answer(NamedTuple):
    """What one sentinel said: the primary by the configuration of `epoch`; when, in monotonic seconds."""

    epoch: int
    address: Address
    at: float


def sentinel_client(url: str, options: Mapping[str, Any]) -> redis.Redis:
    """Make a client of the primary that the sentinels of `url` name; `options` are those of its connections.

    Raises:
        ValueError: it is no URL of sentinels.
    """
    watch = PrimaryWatch.of(url, options)
    pool = redis.ConnectionPool(
        connection_class=_PrimaryTlsConnection if watch.url.by_tls else _PrimaryConnection,
        **{**options, **watch.url.connecting, "watch": watch},
    )
    watch.pools.add(pool)
    return redis.Redis(connection_pool=pool)


def watch_of(client: redis.Redis) -> PrimaryWatch | None:
    """Return what watches over the primary of `client`; None if it does not go by Sentinel."""
    found: PrimaryWatch | None = client.connection_pool.connection_kwargs.get("watch")
    return found


class PrimaryWatch:
    """Knows which server is the primary of a service: one a process and URL, whose thread starts when needed."""

    _all: dict[str, PrimaryWatch] = {}  # noqa: RUF012  # shared on purpose

    def __init__(self, url: SentinelURL, options: Mapping[str, Any]) -> None:
        self.url = url
        #: Those whose connections are shut on a switch.
        self.pools: weakref.WeakSet[redis.ConnectionPool] = weakref.WeakSet()
        connection_class = redis.SSLConnection if url.asked_by_tls else redis.Connection
        patience = {"socket_timeout": _ANSWER_SECONDS, "socket_connect_timeout": _CONNECT_SECONDS}
        shared = {name: value for name, value in options.items() if name != "redis_connect_func"}
        self._clients = [
            redis.Redis(
                connection_pool=redis.ConnectionPool(
                    connection_class=connection_class, host=host, port=port, **{**shared, **patience, **url.asking}
                )
            )
            for host, port in url.sentinels
        ]
        self._begin()

    def _begin(self) -> None:
        """Know nothing, and have no thread: at the start, and in a process that was forked."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._answers: dict[int, _Answer] = {}
        self._named: Address | None = None
        self._followed: Address | None = None
        self._turn = 0

    @classmethod
    def of(cls, url: str, options: Mapping[str, Any]) -> PrimaryWatch:
        """Return the watch of a URL.

        Raises:
            ValueError: it is no URL of sentinels.
        """
        if url not in cls._all:
            cls._all[url] = cls(SentinelURL.read(url), options)
        return cls._all[url]

    @classmethod
    def after_fork(cls) -> None:
        """Begin anew in a child: threads stay with the parent."""
        for one in cls._all.values():
            one._begin()  # noqa: SLF001  # its own class

    def primary(self) -> Address:
        """Return where the primary is.

        Raises:
            NotNowError: no sentinel says.
        """
        if self._named and self._thread and self._thread.is_alive():
            return self._followed or self._named
        with self._lock:
            named = self._named or self._ask_all()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="sentinel", daemon=True)
                self._thread.start()
        return self._followed or named

    def is_current(self, address: Address) -> bool:
        """Return whether the primary is still at `address`."""
        return address == (self._followed or self._named)

    def follow(self, address: Address, primary: Address | None) -> None:
        """Note that the server at `address` is a replica of `primary`; None: it cannot be connected to.

        Sentinels take half a minute to see that (a FAILOVER that was not theirs). What they name is tried again if it
        leads nowhere.
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
        now = system_clock.monotonic()
        address = Address(str(state["ip"]), int(state["port"]))
        self._answers[number] = _Answer(int(state["config-epoch"]), address, now)
        for one in [one for one, answer in self._answers.items() if now - answer.at > _FORGET_SECONDS]:
            del self._answers[one]
        named, used = max(self._answers.values()).address, self._followed or self._named
        if named != self._named:
            self._named, self._followed = named, None
            if used not in (None, named):
                self._cut()
        return named

    def _cut(self) -> None:
        """Shut every connection; whoever waits for an answer there gets an error now."""
        for pool in list(self.pools):
            with pool._lock:  # noqa: SLF001  # redis-py closes sockets only by objects that other threads are using
                connections = [*pool._in_use_connections, *pool._available_connections]  # noqa: SLF001
            for one in connections:
                with suppress(AttributeError, OSError):  # it is not connected
                    one._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001

    def _watch(self) -> None:
        """Listen and ask for as long as somebody has a client."""
        listening = 0
        while self.pools:
            listening = (listening + 1) % len(self._clients)
            try:
                with self._clients[listening].pubsub(ignore_subscribe_messages=True) as switches:  # type: ignore[no-untyped-call]
                    switches.subscribe(_SWITCH)
                    while self.pools:
                        told = switches.get_message(timeout=LOOK_SECONDS)
                        self._look(listening if told else None)
            except redis.RedisError:
                self._look(None)
                system_clock.sleep(LOOK_SECONDS / len(self._clients))

    def _look(self, number: int | None) -> None:
        """Ask that sentinel, which told of a switch; else the next one."""
        self._turn += 1
        with suppress(redis.RedisError), self._lock:
            self._ask(self._turn % len(self._clients) if number is None else number)


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
        """Return if the server is a primary by its INFO, and still the one that is to be used.

        Raises:
            NotNowError: it is not.
        """
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
    """By TLS."""
