"""One HTTP call for one event: connect, send, receive. Each step ends by its deadline, whatever the endpoint does.

The steps are separate because connecting takes time: the slot of a call counts from when it is sent.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import Any

from rlm.core.call import CallEnd
from rlm.core.clock import system_clock
from rlm.core.documents import WEB_PAGE
from rlm.core.endpoint import Endpoint, target_of
from rlm.core.errors import RLMError
from rlm.delivery.http_message import Answer, BrokenAnswerError, Request, head_of, render
from rlm.delivery.outcome import Kind, Outcome, classify, kind_of_error, lies_here, parse_date
from rlm.settings.secrets import mask, resolve

#: The most connections that are kept for another call. Those used last are kept.
MOST_KEPT = 100

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
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


class Dispatcher:
    """Sends events over kept-alive connections, which the lanes of one worker process share.

    Redirects are not followed, and no proxy is taken from the environment.
    """

    def __init__(self) -> None:
        self._tls = cache(ssl.create_default_context)
        #: The heads of requests; they hold secrets, which a cache does not show.
        self._head = cache(_head)
        #: The kept connections with the URLs of their endpoints; the one used last is last.
        self._idle: list[tuple[str, Connection]] = []
        self._lock = threading.Lock()

    def connect(self, endpoint: Endpoint, seconds: float, *, fresh: bool = False) -> Connection:
        """Return an open connection to `endpoint` within `seconds`: a kept one or a new one, always new if `fresh`.

        A new one replaces a kept one, so that no more are open than calls were under way at one time.

        Raises:
            UnreachableError: it refused or did not answer in time; nothing was sent.
        """
        while connection := self._take(endpoint.url):
            is_usable = connection.is_usable()
            if is_usable and not fresh:
                return connection
            connection.close()
            if is_usable:
                break
        return connect(endpoint.url, seconds, self._tls)

    def _take(self, url: str) -> Connection | None:
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][0] == url:
                    connection = self._idle.pop(place)[1]
                    connection.kept = True
                    return connection
        return None

    def keep(self, endpoint: Endpoint, connection: Connection) -> None:
        """Put back a connection without a call under way; it is checked before its next call."""
        with self._lock:
            self._idle.append((endpoint.url, connection))
            unused = self._idle.pop(0)[1] if len(self._idle) > MOST_KEPT else None
        if unused:
            unused.close()

    def send(self, connection: Connection, endpoint: Endpoint, request: Request, deadline: float) -> Outcome | None:
        """Send a request by `deadline` (monotonic seconds); return None if it left, else why it may not have.

        If it did not, the connection is closed. What an endpoint sends before the request is complete is read only if
        the whole request leaves; otherwise it is not an answer.
        """
        try:
            message = render(self._head(endpoint.url, *endpoint.headers.items()), request)
            connection.send(message, deadline)
        except ValueError:  # not quoted, because it concerns a header, which may be a secret
            connection.close()
            why = "the request could not be sent: a header or the event is not what HTTP allows"
            return Outcome(why, None, Kind.BAD_HEADER)
        except OSError as error:
            connection.close()
            why = f"the request could not be sent completely: {mask(str(error))}"
            return Outcome(why, None, kind_of_error(error))
        return None

    def receive(self, connection: Connection, endpoint: Endpoint, sent_at: float, deadline: float) -> Outcome:
        """Read the answer by `deadline` (monotonic seconds) and classify it. The connection is kept or closed."""
        try:
            answer = connection.receive(deadline)
        except (OSError, BrokenAnswerError) as error:
            connection.close()
            kind, lasted = kind_of_error(error), f"{system_clock.monotonic() - sent_at:.1f} s"
            detail = f"no answer within {lasted}" if kind == Kind.NO_ANSWER else f"{kind} after {lasted}: {error}"
            return Outcome(mask(detail), None, kind)
        seconds = system_clock.monotonic() - sent_at
        if answer.reusable:
            self.keep(endpoint, connection)
        else:
            connection.close()
        if answer.status in range(200, 300):
            return _delivered(answer, endpoint, seconds)
        rests = answer.values("retry-after")
        # By the endpoint's clock, like its `Retry-After`.
        now = next(map(parse_date, answer.values("date")), None) if rests else None
        return classify(answer.status, rests, _excerpt(answer), seconds, system_clock.now() if now is None else now)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for _, connection in self._idle:
                connection.close()
            self._idle.clear()


def _head(url: str, *headers: tuple[str, str]) -> bytes:
    return head_of(url, {name: resolve(value) for name, value in headers})


def _delivered(answer: Answer, endpoint: Endpoint, seconds: float) -> Outcome:
    """Return the outcome of a 2xx, which may be another answer than the settings call a success."""
    content_type, text = next(iter(answer.values("content-type")), ""), f"HTTP {answer.status}"
    if endpoint.success and not endpoint.success.accepts(content_type, b"" if answer.encoded else answer.body):
        what = _excerpt(answer, f"{content_type or 'no content type'}: ")
        return Outcome(f"{text}, {Kind.UNEXPECTED}: {what}", seconds, Kind.UNEXPECTED)
    if not endpoint.success and content_type.lower().startswith("text/html"):  # perhaps a login page
        return Outcome(f"{text}, {_excerpt(answer, f'{content_type}: ')}", seconds, WEB_PAGE, CallEnd.COMPLETED)
    return Outcome(text, seconds, finish=CallEnd.COMPLETED)


def _excerpt(answer: Answer, before: str = "") -> str:
    """Return the beginning of an answer's body, with what goes before it, without secrets and safe to show."""
    body = "" if answer.encoded else answer.body.decode("latin-1")
    text = mask(before + body, torn=not answer.whole)
    return _UNPRINTABLE.sub(" ", text)[:200].strip()
