"""A connection to an endpoint: name look-up, opening, and one call after the other, each step with a deadline."""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from rlm.core.clock import system_clock
from rlm.core.endpoint import target_of
from rlm.core.errors import DispatchError
from rlm.delivery.http_message import Answer
from rlm.delivery.outcome import NO_ANSWER, Unreachable, kind_of_error, lies_here

#: The age from which a connection gets no more calls, seconds. Otherwise a busy connection would stay with its address
#: after DNS has changed. 60 s is a usual lifetime of DNS entries that may change, and one new connection a minute costs
#: nothing measurable.
MAX_AGE_SECONDS = 60.0

#: How long TCP may take to connect to an address, seconds; its third try comes after 3 s. Live hosts answer at once.
CONNECT_SECONDS = 3.5
#: The same while this host's way is in doubt, seconds, because each event that tries it must wait. If only a packet was
#: lost, the next try gets through.
DOUBTFUL_CONNECT_SECONDS = 1.0
#: A connection is cut if nothing sent on it was acknowledged for this long, seconds. A reachable kernel acknowledges at
#: once, however slow its API is, so this soon shows that this host's own way is cut.
SILENT_SECONDS = 4.0

#: What `socket.getaddrinfo` returns: for each address its family, kind, protocol, canonical name and address.
Addresses: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
_READ_BYTES = 65_536
#: Socket options by name: no delay, and detection of a cut way.
_TCP_OPTIONS = {
    "TCP_NODELAY": 1,
    "TCP_KEEPIDLE": 1,  # of Linux; it and the next two are in seconds
    "TCP_KEEPALIVE": 1,  # the same, of macOS
    "TCP_KEEPINTVL": 1,
    "TCP_KEEPCNT": round(SILENT_SECONDS) - 1,
    "TCP_USER_TIMEOUT": round(SILENT_SECONDS * 1000),
}
_OPTIONS: dict[tuple[int, int], int] = {(socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1} | {
    (socket.IPPROTO_TCP, getattr(socket, name)): value for name, value in _TCP_OPTIONS.items() if hasattr(socket, name)
}
#: SO_LINGER on with time 0, as the kernel reads it: closing, or the death of the process, drops unsent data. Otherwise
#: the kernel would go on sending, and an abandoned call could arrive minutes later, when its slot is free again.
_DROP, _DELIVER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class UnreachableError(DispatchError):
    """Raised when no connection to an endpoint could be opened. `outcome` is that of the intended call.

    `here`: this host is the cause, because it can call nobody, or not that address.
    """

    def __init__(self, message: str, kind: str, *, here: bool = False) -> None:
        super().__init__(message)
        self.outcome = Unreachable(message, None, kind, unsent=True, here=here, silent=kind == NO_ANSWER)


class Connection:
    """An open connection, with or without TLS, for one call at a time.

    Its socket does not block. It waits by deadline only for what is missing, which is usually just the answer.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._set_linger(_DROP)
        sock.setblocking(False)
        self._arrivals = select.poll()
        self._arrivals.register(sock, select.POLLIN)
        #: How many bytes TLS has read but not delivered; without TLS 0, which `int()` returns.
        self._pending = sock.pending if isinstance(sock, ssl.SSLSocket) else int
        #: A call is under way on it, or was abandoned.
        self._busy = False
        #: At most this many bytes were unacknowledged at the last check.
        self._unacknowledged = 0
        self._opened_at = system_clock.monotonic()
        #: The endpoint sent something unasked on it.
        self.spoke = False
        #: It was kept after an earlier call, so a call leaves on it at once.
        self.kept = False

    def is_usable(self) -> bool:
        """Return whether it may serve another call: it is young and quiet."""
        return self.is_young(system_clock.monotonic()) and self.is_quiet()

    def is_young(self, now: float) -> bool:
        """Return whether it is still young enough for another call at `now` (monotonic seconds)."""
        return now - self._opened_at < MAX_AGE_SECONDS

    def is_quiet(self) -> bool:
        """Return whether nothing can be read: no end, and no data that would be taken for the next answer.

        With TLS, only reading can tell, because TLS messages such as tickets also arrive as data. A connection that is
        not quiet loses a byte by this and must be closed.
        """
        if self.spoke:  # it was read before
            return False
        try:
            if not self._pending() and not self._arrivals.poll(0):
                return True
            self.spoke = self._sock.recv(1) != b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of `data` by `deadline` (monotonic seconds), or raise an OSError; part of it may have been sent."""
        self._busy, self._unacknowledged = True, len(data)
        left = memoryview(data)
        while left:
            left = left[self._write(left, deadline) :]

    def receive(self, deadline: float) -> Answer:
        """Read an answer by `deadline`, up to its end or the limit; raise a BrokenAnswerError or OSError."""
        answer = Answer()
        try:
            while not answer.whole and (room := answer.room):
                answer.feed(self._read(min(room, _READ_BYTES), deadline))
        finally:
            answer.close()
        self._busy = False
        self.spoke = answer.surplus
        return answer

    def close(self) -> None:
        """Close it at once, without a TLS closing handshake. Unsent data of an abandoned call is dropped."""
        if not self._busy:
            self._set_linger(_DELIVER)
        self._sock.close()

    def _read(self, most: int, deadline: float) -> bytes:
        while True:
            if not self._pending():
                self._await_answer(deadline)
            try:
                return self._sock.recv(most)
            except ssl.SSLWantWriteError:
                self._is_ready(select.POLLOUT, deadline)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue  # the data was a TLS message

    def _write(self, data: memoryview, deadline: float) -> int:
        while system_clock.monotonic() < deadline:
            try:
                return self._sock.send(data)
            except ssl.SSLWantReadError:
                self._is_ready(select.POLLIN, deadline)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._is_ready(select.POLLOUT, deadline)
        raise TimeoutError("timed out")

    def _await_answer(self, deadline: float) -> None:
        """Wait for data; give up if nothing sent was acknowledged for `SILENT_SECONDS`.

        The kernel alone would not give up while packets arrive: an API that still reaches this host repeats its last
        answer until that is acknowledged.
        """
        while not self._is_ready(select.POLLIN, min(deadline, system_clock.monotonic() + SILENT_SECONDS)):
            if system_clock.monotonic() >= deadline:
                raise TimeoutError("timed out")
            left = 0
            with suppress(OSError):  # the system does not support it
                left = struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)))[0]
            if left and left >= self._unacknowledged:
                raise OSError(errno.ETIMEDOUT, "nothing was acknowledged any more")
            self._unacknowledged = left

    def _is_ready(self, event: int, until: float) -> bool:
        """Wait for an event of the socket, or its end, `until` (monotonic seconds); return whether it came."""
        ready, left = self._arrivals, until - system_clock.monotonic()
        if event != select.POLLIN:
            ready = select.poll()
            ready.register(self._sock, event)
        return left > 0 and bool(ready.poll(1000 * left))

    def _set_linger(self, linger: bytes) -> None:
        with suppress(OSError):  # it is already closed or reset
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


class Opener:
    """Opens connections, all with one TLS context that checks certificates against the host's trust store.

    A name has one look-up at a time, in a daemon thread. So a hanging look-up holds no call beyond its deadline, and
    does not delay the end of the process. Nothing is cached.
    """

    def __init__(self) -> None:
        #: Whether this host's way may be cut: something was not acknowledged, and no call has been answered since.
        self.in_doubt = False
        self._under_way: dict[tuple[str, int], Future[Addresses]] = {}
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def open(self, url: str, seconds: float) -> Connection:
        """Return a new connection to the host of `url`, made within `seconds`, including look-up, TCP and TLS.

        TCP has less time if the way is in doubt.

        Raises:
            UnreachableError: it refused, did not answer in time, or has the wrong certificate; nothing was sent.
        """
        deadline = system_clock.monotonic() + seconds
        host, port, scheme = target_of(url)
        tcp_seconds = DOUBTFUL_CONNECT_SECONDS if self.in_doubt else CONNECT_SECONDS
        try:
            sock = _reach(self._resolve(host, port, seconds), deadline, tcp_seconds)
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
            end = partial(answer.set_result, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            end = partial(answer.set_exception, error)
        with self._lock:  # before it ends, so that a later request begins a new look-up
            del self._under_way[host, port]
        end()

    def _encrypt(self, sock: socket.socket, host: str, deadline: float) -> ssl.SSLSocket:
        try:
            context = self._context = self._context or ssl.create_default_context()
            _limit(sock, deadline)
            return context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise


def _reach(addresses: Addresses, deadline: float, tcp_seconds: float) -> socket.socket:
    """Connect to the first address that answers. Each may take `tcp_seconds` and its share of the remaining time."""
    failure: OSError = OSError("its name has no address")
    for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        now = system_clock.monotonic()
        try:
            seconds = min(tcp_seconds, (deadline - now) / left)
            return _connect(socket.socket(family, kind, protocol), address, now + seconds)
        except OSError as error:
            failure = error
    raise failure


def _connect(sock: socket.socket, address: Any, deadline: float) -> socket.socket:
    try:
        _limit(sock, deadline)
        sock.connect(address)
        for option, value in _OPTIONS.items():
            sock.setsockopt(*option, value)
    except OSError:
        sock.close()
        raise
    return sock


def _limit(sock: socket.socket, deadline: float) -> None:
    """Limit the socket's next step by `deadline` (monotonic seconds)."""
    left = deadline - system_clock.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    sock.settimeout(left)
