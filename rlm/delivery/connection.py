"""A connection to an endpoint: name look-up, opening, and one call after the other, each step with a deadline."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from rlm.core.clock import system_clock
from rlm.core.endpoint import target_of
from rlm.core.errors import RLMError
from rlm.delivery.http_message import Answer
from rlm.delivery.outcome import Outcome, kind_of_error, lies_here

#: The age from which a connection gets no more calls, seconds: a busy one would stay with its address for ever, though
#: DNS has changed. One new connection a minute costs nothing measurable.
MAX_AGE_SECONDS = 60.0
#: How long TCP may take to connect to an address, seconds; its third try comes after 3 s. Live hosts answer at once.
CONNECT_SECONDS = 3.5
#: The kernel cuts a connection on which nothing was acknowledged for this long, seconds. A host that is there
#: acknowledges at once, however slow its API is.
SILENT_SECONDS = 4

#: No delay, and detection of a cut way.
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENT_SECONDS - 1),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_SECONDS * 1000),
)
#: SO_LINGER on with time 0, as the kernel reads it: closing, or the death of the process, drops unsent data. Otherwise
#: the kernel would go on sending, and an abandoned call could arrive minutes later, when its slot is free again.
_DROP, _DELIVER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class UnreachableError(RLMError):
    """Raised when no connection to an endpoint could be opened. `outcome` is that of the intended call."""

    def __init__(self, message: str, kind: str, *, here: bool = False) -> None:
        super().__init__(message)
        self.outcome = Outcome(message, None, kind, unsent=True, here=here)


class Connection:
    """An open connection, with or without TLS, for one call at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._set_linger(_DROP)
        sock.setblocking(False)  # time-outs took 10 % of a worker's processor time, for their system calls
        self._poll = select.poll()
        self._opened_at = system_clock.monotonic()
        #: A call is under way on it, or was abandoned.
        self._busy = False
        #: It was kept after an earlier call, so a call leaves on it at once.
        self.kept = False

    def is_usable(self) -> bool:
        """Return whether it may serve another call: it is young, and nothing can be read, neither an end nor data.

        Only reading can tell, because what TLS says for itself also arrives as data. A connection that is not usable
        loses a byte by this, and must be closed.
        """
        if system_clock.monotonic() - self._opened_at >= MAX_AGE_SECONDS:
            return False
        try:
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of `data` by `deadline` (monotonic seconds), or raise an OSError; part of it may have been sent."""
        if not (self.kept or self.is_usable()):  # taking a slot for a new one took time
            raise ConnectionError("the endpoint closed the connection, or sent data unasked")
        self._busy = True
        left = memoryview(data)
        while left:
            if system_clock.monotonic() >= deadline:
                raise TimeoutError("timed out")
            try:
                left = left[self._sock.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._await(select.POLLOUT, deadline)
            except ssl.SSLWantReadError:
                self._await(select.POLLIN, deadline)

    def receive(self, deadline: float) -> Answer:
        """Read an answer by `deadline`, up to its end or the limit; raise a BrokenAnswerError or OSError."""
        answer = Answer()
        self._await(select.POLLIN, deadline)
        while not answer.whole and (room := answer.room):
            try:  # without waiting, because TLS may have more of what it read
                data = self._sock.recv(room)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._await(select.POLLIN, deadline)
            else:
                answer.feed(data)
        if system_clock.monotonic() >= deadline:
            raise TimeoutError("timed out")
        self._busy = False
        return answer

    def _await(self, event: int, deadline: float) -> None:
        """Wait until the socket is ready for a step; raise a TimeoutError at `deadline`."""
        self._poll.register(self._sock, event)
        left = deadline - system_clock.monotonic()
        if left <= 0 or not self._poll.poll(1000 * left):
            raise TimeoutError("timed out")

    def close(self) -> None:
        """Close it at once, without a TLS closing handshake. Unsent data of an abandoned call is dropped."""
        if not self._busy:
            self._set_linger(_DELIVER)
        self._sock.close()

    def _set_linger(self, linger: bytes) -> None:
        with suppress(OSError):  # it is already closed or reset
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def connect(url: str, seconds: float, tls: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> Connection:
    """Return a new connection to the host of `url`, made within `seconds`, including look-up, TCP and TLS.

    `tls` returns the context, which checks certificates against the host's trust store.

    Raises:
        UnreachableError: it refused, did not answer in time, or has the wrong certificate; nothing was sent.
    """
    deadline = system_clock.monotonic() + seconds
    host, port, scheme = target_of(url)
    try:
        sock = _reach(_look_up(host, port, seconds), deadline)
        try:
            if scheme == "https":
                sock.settimeout(_left(deadline))
                sock = tls().wrap_socket(sock, server_hostname=host)
            return Connection(sock)
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:  # UnicodeError: an impossible name
        message = f"no connection to {host}:{port}: {error}"
        raise UnreachableError(message, kind_of_error(error), here=lies_here(error)) from error


def _left(deadline: float) -> float:
    """Return the seconds until `deadline`; raise a TimeoutError if it has passed."""
    if (left := deadline - system_clock.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left


def _look_up(host: str, port: int, seconds: float) -> list[Any]:
    """Return what `getaddrinfo` does. A look-up that hangs holds neither the call nor the end of the process."""
    addresses: Future[list[Any]] = Future()

    def look_up() -> None:
        try:
            addresses.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            addresses.set_exception(error)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    try:
        return addresses.result(max(0.0, seconds))
    except TimeoutError:
        raise TimeoutError("timed out while its name was looked up") from None


def _reach(addresses: list[Any], deadline: float) -> socket.socket:
    """Connect to the first address that answers; each has its share of the time that is left."""
    failure: OSError = OSError("its name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(CONNECT_SECONDS, _left(deadline) / (len(addresses) - number)))
            sock.connect(address)
            for option in _OPTIONS:
                sock.setsockopt(*option)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure
