"""A connection to an endpoint: name look-up, opening, and one call after the other, each step with a deadline."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeAlias

from rlm.core.clock import system_clock
from rlm.core.endpoint import target_of
from rlm.core.errors import DispatchError
from rlm.delivery.http_message import Answer
from rlm.delivery.outcome import Unreachable, kind_of_error, lies_here

#: The age from which a connection gets no more calls, seconds. Otherwise a busy connection would stay with its address
#: after DNS has changed. 60 s is a usual lifetime of DNS entries that may change, and one new connection a minute costs
#: nothing measurable.
MAX_AGE_SECONDS = 60.0
#: How long TCP may take to connect to an address, seconds; its third try comes after 3 s. Live hosts answer at once.
CONNECT_SECONDS = 3.5

#: What `socket.getaddrinfo` returns: for each address its family, kind, protocol, canonical name and address.
Addresses: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
_READ_BYTES = 65_536
#: No delay, and detection of a cut way: a connection is cut if nothing sent on it was acknowledged for 4 s. A reachable
#: kernel acknowledges at once, however slow its API is.
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 4000),
)
#: SO_LINGER on with time 0, as the kernel reads it: closing, or the death of the process, drops unsent data. Otherwise
#: the kernel would go on sending, and an abandoned call could arrive minutes later, when its slot is free again.
_DROP, _DELIVER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class UnreachableError(DispatchError):
    """Raised when no connection to an endpoint could be opened. `outcome` is that of the intended call.

    `here`: this host is the cause, because it can call nobody, or not that address.
    """

    def __init__(self, message: str, kind: str, *, here: bool = False) -> None:
        super().__init__(message)
        self.outcome = Unreachable(message, None, kind, unsent=True, here=here)


class Connection:
    """An open connection, with or without TLS, for one call at a time. Before each step its deadline is set."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
        #: A call is under way on it, or was abandoned.
        self._busy = False
        self._reusable = True
        self._opened_at = system_clock.monotonic()
        #: The endpoint sent something unasked on it.
        self.spoke = False
        #: It was kept after an earlier call, so a call leaves on it at once.
        self.kept = False

    def is_usable(self) -> bool:
        """Return whether it may serve another call: it is young and quiet."""
        return self._reusable and system_clock.monotonic() - self._opened_at < MAX_AGE_SECONDS and self.is_quiet()

    def is_quiet(self) -> bool:
        """Return whether nothing can be read: no end, and no data that would be taken for the next answer.

        With TLS, only reading can tell, because TLS messages such as tickets also arrive as data. A connection that is
        not quiet loses a byte by this and must be closed.
        """
        try:
            self._sock.settimeout(0)
            self.spoke = self.spoke or self._sock.recv(1) != b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of `data` by `deadline` (monotonic seconds), or raise an OSError; part of it may have been sent."""
        self._busy, left = True, memoryview(data)
        while left:
            _limit(self._sock, deadline)
            left = left[self._sock.send(left) :]

    def receive(self, deadline: float) -> Answer:
        """Read an answer by `deadline`, up to its end or the limit; raise a BrokenAnswerError or OSError."""
        answer = Answer()
        try:
            while not answer.whole and (room := answer.room):
                _limit(self._sock, deadline)
                answer.feed(self._sock.recv(min(room, _READ_BYTES)))
        finally:
            answer.close()
        self._busy, self._reusable, self.spoke = False, answer.reusable, answer.surplus
        return answer

    def close(self) -> None:
        """Close it at once, without a TLS closing handshake. Unsent data of an abandoned call is dropped."""
        if not self._busy:
            with suppress(OSError):  # it is already closed or reset
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DELIVER)
        self._sock.close()


class Opener:
    """Opens connections, all with one TLS context that checks certificates against the host's trust store.

    A name has one look-up at a time, in a daemon thread. So a hanging look-up holds no call beyond its deadline, and
    does not delay the end of the process. Nothing is cached.
    """

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, int], Future[Addresses]] = {}
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def open(self, url: str, seconds: float) -> Connection:
        """Return a new connection to the host of `url`, made within `seconds`, including look-up, TCP and TLS.

        Raises:
            UnreachableError: it refused, did not answer in time, or has the wrong certificate; nothing was sent.
        """
        deadline = system_clock.monotonic() + seconds
        host, port, scheme = target_of(url)
        try:
            sock = _reach(self._resolve(host, port, seconds), deadline)
            return Connection(self._encrypt(sock, host, deadline) if scheme == "https" else sock)
        except (OSError, UnicodeError) as error:  # UnicodeError: an impossible name
            message = f"no connection to {host}:{port}: {error}"
            raise UnreachableError(message, kind_of_error(error), here=lies_here(error)) from error

    def _resolve(self, host: str, port: int, seconds: float) -> Addresses:
        with suppress(socket.gaierror):  # not a numeric address
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        with self._lock:
            answer = self._under_way.get((host, port))
            if answer is None:
                answer = Future()
                args = host, port, answer
                threading.Thread(target=self._look_up, args=args, name=f"resolve {host}", daemon=True).start()
                self._under_way[host, port] = answer  # once started; the thread needs the lock to remove it
        try:
            return answer.result(max(0.0, seconds))
        except TimeoutError:
            raise TimeoutError("timed out while its name was looked up") from None

    def _look_up(self, host: str, port: int, answer: Future[Addresses]) -> None:
        try:
            addresses: Addresses | Exception = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            addresses = error
        with self._lock:  # before it ends, so that a later request begins a new look-up
            del self._under_way[host, port]
        if isinstance(addresses, Exception):
            answer.set_exception(addresses)
        else:
            answer.set_result(addresses)

    def _encrypt(self, sock: socket.socket, host: str, deadline: float) -> ssl.SSLSocket:
        try:
            context = self._context = self._context or ssl.create_default_context()
            _limit(sock, deadline)
            return context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise


def _reach(addresses: Addresses, deadline: float) -> socket.socket:
    """Connect to the first address that answers. Each may take `CONNECT_SECONDS` and its share of the time left."""
    failure: OSError = OSError("its name has no address")
    for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock = socket.socket(family, kind, protocol)
        try:
            now = system_clock.monotonic()
            _limit(sock, now + min(CONNECT_SECONDS, (deadline - now) / left))
            sock.connect(address)
            for option in _OPTIONS:
                sock.setsockopt(*option)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _limit(sock: socket.socket, deadline: float) -> None:
    """Limit the socket's next step by `deadline` (monotonic seconds)."""
    left = deadline - system_clock.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    sock.settimeout(left)
