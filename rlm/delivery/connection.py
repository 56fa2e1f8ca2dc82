"""A connection to an endpoint: its name looked up, opened, used for one call after the other, each by a deadline."""

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

#: Maximum age of a connection at which it still gets another call, seconds. A busy one would stay with the address it
#: was opened to, whatever DNS says later. 60 s is the usual lifetime of a name that may move, and one new connection a
#: minute costs nothing that could be measured.
MAX_AGE_SECONDS = 60.0

#: How long TCP may take to connect to an address, seconds: its third try comes after 3 s. Who is there answers at once.
CONNECT_SECONDS = 3.5
#: The same while the way of this host is in doubt, seconds: each event that tries it waits. Where only a packet was
#: lost, the next one gets through.
DOUBTFUL_CONNECT_SECONDS = 1.0
#: A connection is cut once nothing sent on it was acknowledged for so long, seconds. The kernel of whoever can be
#: reached acknowledges at once, however long an API takes to answer, so a host learns soon that its own way is cut.
SILENT_SECONDS = 4.0

#: What `socket.getaddrinfo` returns: family, kind, protocol, canonical name, address of each.
Addresses: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
_READ_BYTES = 65_536
#: Of a socket, by level and number: no delay, and what finds out that its way is cut.
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
#: SO_LINGER on with a time of 0, as the kernel reads it: whoever closes, or dies, drops what has not arrived. Else the
#: kernel would go on sending it, and a call that was given up would arrive minutes later, when its slot is free again.
_DROP, _DELIVER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class UnreachableError(DispatchError):
    """Raised when no connection to an endpoint could be opened. The `outcome` is that of the call that was to be made.

    `here`: it lies with this host, which can call nobody, or not there.
    """

    def __init__(self, message: str, kind: str, *, here: bool = False) -> None:
        super().__init__(message)
        self.outcome = Unreachable(message, None, kind, unsent=True, here=here, silent=kind == NO_ANSWER)


class Connection:
    """An open connection, with TLS or without. One call at a time.

    Its socket does not block: what is waited for is what it lacks, by a deadline, and mostly that is the answer only.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._set_linger(_DROP)
        sock.setblocking(False)
        self._arrivals = select.poll()
        self._arrivals.register(sock, select.POLLIN)
        #: How many bytes TLS has read and not given out; without it none, as `int` says.
        self._pending = sock.pending if isinstance(sock, ssl.SSLSocket) else int
        #: A call is under way on it, or was given up.
        self._busy = False
        #: So many bytes of it, at most, were not acknowledged when last looked at.
        self._unacknowledged = 0
        #: When it was answered or looked at last, monotonic seconds.
        self.seen_at = self._opened_at = system_clock.monotonic()
        #: The endpoint said something on it that nobody had asked for.
        self.spoke = False

    def is_usable(self) -> bool:
        """Return whether it may serve another call: it is not too old, and quiet."""
        return self.is_young(system_clock.monotonic()) and self.is_quiet()

    def is_young(self, now: float) -> bool:
        """Return whether it is not too old at `now` (monotonic seconds) for another call."""
        return now - self._opened_at < MAX_AGE_SECONDS

    def is_quiet(self) -> bool:
        """Return whether nothing can be read: no end, and nothing that would be taken for the next answer.

        Only reading is a test for TLS too, since it takes in messages of TLS itself, such as tickets. A connection that
        is not quiet has lost a byte by it, and must be closed.
        """
        if self.spoke:  # that was read before
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
        """Send all of `data` by `deadline` (monotonic seconds), or raise an OSError; some of it may have been sent."""
        self._busy, self._unacknowledged = True, len(data)
        left = memoryview(data)
        while left:
            left = left[self._write(left, deadline) :]

    def receive(self, deadline: float) -> Answer:
        """Read an answer by `deadline`, to its end or to the most that is read; raise a BrokenAnswerError, OSError."""
        answer = Answer()
        try:
            while not answer.whole and (room := answer.room):
                answer.feed(self._read(min(room, _READ_BYTES), deadline))
        finally:
            answer.close()
        self._busy = False
        self.spoke = answer.surplus
        self.seen_at = system_clock.monotonic()
        return answer

    def cut(self) -> None:
        """End the call that another thread has under way on it."""
        with suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # that of TLS would let the other thread read on

    def close(self) -> None:
        """Close it at once; TLS is not wound down. What has not arrived of a call that was given up never will."""
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
                continue  # what came was for TLS itself

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
        """Wait until something came; end the call once nothing of it was acknowledged for `SILENT_SECONDS`.

        The kernel alone would not end it while packets come in: an API whose way here is open repeats its last answer
        until that is acknowledged.
        """
        while not self._is_ready(select.POLLIN, min(deadline, system_clock.monotonic() + SILENT_SECONDS)):
            if system_clock.monotonic() >= deadline:
                raise TimeoutError("timed out")
            left = 0
            with suppress(OSError):  # the system does not say
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
        with suppress(OSError):  # it is closed already, or reset
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


class Opener:
    """Opens connections, all with one context of TLS: certificates are checked against what the host trusts.

    Each name is looked up once at a time, in a thread that nobody waits for at the end of the process: a look-up that
    hangs holds no call beyond its time, and a name has one thread at most. Nothing is cached.
    """

    def __init__(self) -> None:
        #: Whether the way of this host may be cut: nobody there acknowledged anything, and no call was answered since.
        self.in_doubt = False
        self._under_way: dict[tuple[str, int], Future[Addresses]] = {}
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def open(self, url: str, seconds: float, *, doubtful: bool = False) -> Connection:
        """Return a new connection to the host of `url`, made within `seconds`: its name, TCP and TLS in all.

        TCP has less where the way is `doubtful`, or in doubt.

        Raises:
            UnreachableError: it refused, did not answer in time, or is not who it should be; nothing was sent.
        """
        deadline = system_clock.monotonic() + seconds
        host, port, scheme = target_of(url)
        tcp_seconds = DOUBTFUL_CONNECT_SECONDS if doubtful or self.in_doubt else CONNECT_SECONDS
        try:
            sock = _reach(self._resolve(host, port, seconds), deadline, tcp_seconds)
            return Connection(self._encrypt(sock, host, deadline) if scheme == "https" else sock)
        except (OSError, UnicodeError) as error:  # the latter of a name that cannot be one
            told = f"no connection to {host}:{port}: {error}"
            raise UnreachableError(told, kind_of_error(error), here=lies_here(error)) from error

    def _resolve(self, host: str, port: int, seconds: float) -> Addresses:
        with suppress(socket.gaierror):  # it is a name
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        with self._lock:
            found = self._under_way.get((host, port))
            if found is None:
                found = Future()
                args = host, port, found
                threading.Thread(target=self._look_up, args=args, name=f"resolve {host}", daemon=True).start()
                self._under_way[host, port] = found  # once it is begun: it cannot end before the lock is free
        try:
            return found.result(max(0.0, seconds))
        except TimeoutError:
            raise TimeoutError("timed out while its name was looked up") from None

    def _look_up(self, host: str, port: int, found: Future[Addresses]) -> None:
        try:
            end = partial(found.set_result, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            end = partial(found.set_exception, error)
        with self._lock:  # before it ends: whoever asks after its end begins a new one
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
    """Connect to the first address that answers. Each may take `tcp_seconds` and its share of what is left."""
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
    """Bound the socket's next step by `deadline` (monotonic seconds)."""
    left = deadline - system_clock.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    sock.settimeout(left)
