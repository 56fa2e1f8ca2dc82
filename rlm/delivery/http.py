"""One exchange of HTTP/1.1: connect, send, receive. Each step ends by its deadline, whatever the endpoint does.

The steps are separate because connecting takes time: the slot of a call counts from when it is sent. llhttp parses
heads and chunks; what it lets pass is checked here. Interim answers (1xx) are read and skipped. An answer that is not
exactly what HTTP/1.1 allows is rejected, because it could be understood in two ways.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from rlm import __version__
from rlm.core.clock import system_clock
from rlm.core.endpoint import Endpoint
from rlm.core.errors import RLMError
from rlm.core.item import BadItemError, Reason
from rlm.ledger.turns import Claim
from rlm.settings.secrets import resolve

#: How many bytes of an answer are read so that its connection can be reused; a longer answer is cut.
MAX_ANSWER_BYTES = 262_144
#: Within how many bytes the final answer's header must end, including interim answers.
MAX_HEAD_BYTES = 65_536
#: The most connections that are kept for another call. Those used last are kept.
MOST_KEPT = 100
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
_SWITCHING_PROTOCOLS = 101


class UnreachableError(RLMError):
    """Raised when no connection to an endpoint could be opened, so nothing was sent; its cause is the error."""


class BrokenAnswerError(RLMError):
    """Raised when the data received is not a complete HTTP/1.1 answer. Whether the event was taken is not known."""


class Connections:
    """The connections of one worker process, which its lanes share and keep for further calls.

    Redirects are not followed, and no proxy is taken from the environment.
    """

    def __init__(self) -> None:
        self._tls = cache(ssl.create_default_context)  # it checks certificates against the host's trust store
        #: The connections without a call; the one used last is last.
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def connect(self, url: str, seconds: float, *, fresh: bool = False) -> Connection:
        """Return an open connection for `url` within `seconds`: a kept one or a new one, always new if `fresh`.

        A new one takes look-up, TCP and TLS.

        Raises:
            UnreachableError: it refused, did not answer in time, or has the wrong certificate.
        """
        while not fresh and (connection := self._take(url)):
            if connection.is_usable():
                return connection
            connection.close()
        deadline = system_clock.monotonic() + seconds
        parts = urlsplit(url)
        host, scheme = parts.hostname or "", parts.scheme
        port = parts.port or (443 if scheme == "https" else 80)
        try:
            sock = _reach(_look_up(host, port, seconds), deadline)
            try:
                if scheme == "https":
                    sock.settimeout(_left(deadline))
                    sock = self._tls().wrap_socket(sock, server_hostname=host)
                return Connection(sock, url)
            except BaseException:
                sock.close()
                raise
        except (OSError, UnicodeError) as error:  # UnicodeError: an impossible name
            raise UnreachableError(f"no connection to {host}:{port}: {error}") from error

    def _take(self, url: str) -> Connection | None:
        with self._lock:
            connection = next((each for each in reversed(self._idle) if each.url == url), None)
            if connection:
                self._idle.remove(connection)
                connection.kept = True
        return connection

    def put_back(self, connection: Connection) -> None:
        """Keep a connection for another call, before which it is checked, or close it if it is not reusable."""
        unused: Connection | None = connection
        if connection.reusable:
            with self._lock:
                self._idle.append(connection)
                unused = self._idle.pop(0) if len(self._idle) > MOST_KEPT else None
        if unused:
            unused.close()

    def close(self) -> None:
        """Close the connections without a call."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


def _look_up(host: str, port: int, seconds: float) -> list[Any]:
    """Return what `getaddrinfo` does. A look-up that hangs holds neither the call nor the end of the process."""
    with suppress(socket.gaierror):  # an address needs no thread, without which 100 lanes begin 15 ms sooner
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
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


class Connection:
    """An open connection, with or without TLS, for one call to `url` at a time."""

    def __init__(self, sock: socket.socket, url: str) -> None:
        self._sock = sock
        self._set_linger(_DROP)
        sock.setblocking(False)  # time-outs took 10 % of a worker's processor time, for their system calls
        self._poll = select.poll()
        self._opened_at = system_clock.monotonic()
        self.url = url
        #: It was kept after an earlier call, so a call leaves on it at once.
        self.kept = False
        #: A call is under way on it, or was abandoned.
        self._busy = False
        #: It had no call yet, or the last one left nothing behind.
        self.reusable = True

    def is_usable(self) -> bool:
        """Return whether it may serve another call: it is young, and nothing can be read, neither an end nor data.

        Only reading can tell, because what TLS says for itself also arrives as data. A connection that is not usable
        loses a byte by this, and must be closed.
        """
        if system_clock.monotonic() - self._opened_at >= MAX_AGE_SECONDS:
            return False
        try:
            self._sock.recv(1)
        except OSError as error:
            return isinstance(error, BlockingIOError | ssl.SSLWantReadError)
        return False

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of `data` by `deadline` (monotonic seconds), or raise an OSError; part of it may have been sent.

        What an endpoint sends before the request is complete is read only if the whole request leaves; otherwise it is
        not an answer.
        """
        self.reusable = False
        if not (self.kept or self.is_usable()):  # taking a slot for a new one took time
            raise ConnectionError("the endpoint closed the connection, or sent data unasked")
        self._busy = True
        left = memoryview(data)
        while left:
            _left(deadline)
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
        _left(deadline)
        self._busy, self.reusable = False, answer.reusable
        return answer

    def _await(self, event: int, deadline: float) -> None:
        """Wait until the socket is ready for a step; raise a TimeoutError at `deadline`."""
        self._poll.register(self._sock, event)
        if not self._poll.poll(1000 * _left(deadline)):
            raise TimeoutError("timed out")

    def close(self) -> None:
        """Close it at once, without a TLS closing handshake. Unsent data of an abandoned call is dropped."""
        if not self._busy:
            self._set_linger(_DELIVER)
        self._sock.close()

    def _set_linger(self, linger: bytes) -> None:
        with suppress(OSError):  # it is already closed or reset
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _left(deadline: float) -> float:
    """Return the seconds until `deadline`; raise a TimeoutError if it has passed."""
    if (left := deadline - system_clock.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left


def render(endpoint: Endpoint, claim: Claim) -> bytes:
    """Return the request for an event as it is sent; its body has the item as it came.

    Raises:
        BadItemError: the event was damaged in the ledger.
        ValueError: HTTP does not allow a header, which may be a secret, so it is not quoted.
    """
    try:
        head = _head(endpoint.url, *endpoint.headers.items())
    except ValueError:
        raise ValueError("a header is not what HTTP allows") from None
    try:
        head += _line(f"Idempotency-Key: {claim.event_id}")
        msgspec.json.decode(claim.item)
        fields = {
            "event_id": claim.event_id,
            "event_type": claim.type,
            "wallet_name": claim.wallet_name,
            "run_id": claim.run_id,
            "attempt": claim.attempt + 1,
            "item": msgspec.Raw(claim.item),
        }
        body = msgspec.json.encode(fields)
    except ValueError:
        raise BadItemError(Reason.BAD_VALUE, "the event was damaged in the ledger") from None
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


@cache  # it holds secrets, which a cache does not show
def _head(url: str, *headers: tuple[str, str]) -> bytes:
    """Return the part of a request that is the same in each call."""
    parts = urlsplit(url)
    fields = {"Host": parts.netloc.rpartition("@")[2], **{name: resolve(value) for name, value in headers}}
    fields |= {"Content-Type": "application/json", "User-Agent": f"rlm/{__version__}"}
    if "accept-encoding" not in map(str.lower, fields):
        fields["Accept-Encoding"] = "identity"  # people may read the answer
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return b"".join(map(_line, [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]))


def _line(text: str) -> bytes:
    """Return a line of the header; raise a ValueError if it would be more than one, which the settings do not allow."""
    if {"\r", "\n", "\0"} & {*text}:
        raise ValueError("a header holds a line break or a NUL")
    return text.encode("latin-1") + b"\r\n"


class Answer:
    """An answer being received. `status` is 0 until the header of the final answer has ended."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()
        #: It was read to its end.
        self.whole = False
        #: More data followed it in the same read.
        self.surplus = False
        self._keeps = False
        self._received = 0
        self._unread = b""
        #: The fields of the final header; names in lower case.
        self.fields: list[tuple[str, str]] = []
        #: Reads its body, unless that ends with the connection.
        self._parser: HttpResponseParser | None = None

    @property
    def reusable(self) -> bool:
        """Return whether its connection may serve another call: it ended by its framing, and neither end closes."""
        return self.whole and self._keeps and not self.surplus

    @property
    def encoded(self) -> bool:
        """Return whether the body is compressed, so that people cannot read it."""
        codings = self.values("content-encoding") + self.values("transfer-encoding")
        return any(value.lower() not in {"identity", "chunked"} for value in codings)

    @property
    def room(self) -> int:
        """How many more bytes may be read, 0 if it is cut; raise a BrokenAnswerError if the header is too long."""
        if self.status:
            return max(0, MAX_ANSWER_BYTES - self._received)
        if self._received >= MAX_HEAD_BYTES:
            raise BrokenAnswerError(f"its header is longer than {MAX_HEAD_BYTES // 1024} KiB")
        return MAX_HEAD_BYTES - self._received

    def values(self, name: str) -> list[str]:
        """Return all values of a header field of the final answer; `name` is in lower case."""
        return [value for field, value in self.fields if field == name]

    def feed(self, data: bytes) -> None:
        """Process received data; empty data means that the connection ended.

        Each header is parsed as a whole by a parser of its own, so an interim answer has no body whatever it announces.

        Raises:
            BrokenAnswerError: this is not an HTTP/1.1 answer.
            ConnectionError: the connection ended before the answer did.
        """
        self._received += len(data)
        if not data:
            if not self.status or self._parser:
                when = "within its answer" if self._received else "unanswered"
                raise ConnectionError(f"the endpoint closed it {when}")
            self.whole = True
        while data and not self.status:
            head, end, data = (self._unread + data).partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1."[: len(head)]):
                raise BrokenAnswerError("it is not HTTP/1.1")
            self._unread = b"" if end else head
            if end:
                self._take_head(head + end)
        # The last byte is parsed by itself: if the answer is complete without it, unasked data follows.
        for part in filter(None, (data[:-1], data[-1:])):
            if self.whole:
                self.surplus = True
            elif self._parser:
                self._parse(self._parser, part)
            else:
                self.body += part

    def _take_head(self, head: bytes) -> None:
        self.fields.clear()
        self._parser = parser = HttpResponseParser(self)
        self._parse(parser, head)
        self._parser = None
        status, version = parser.get_status_code(), parser.get_http_version()
        codings, lengths = self.values("transfer-encoding"), self.values("content-length")
        if version not in {"1.0", "1.1"} or (codings and version == "1.0"):
            raise BrokenAnswerError("its version of HTTP is another, or does not know its Transfer-Encoding")
        if ",".join(codings).lower().count("chunked") > 1:
            raise BrokenAnswerError("it is chunked twice")
        if status not in range(100, 600) or status == _SWITCHING_PROTOCOLS:
            raise BrokenAnswerError(f"HTTP {status} is no answer")
        if status in range(100, 200):
            self.whole = False
            return
        self.status, self._parser = status, parser if codings or lengths else None
        # An answer without a body that announces one may be followed by it.
        self._keeps &= not (status in {204, 304} and (codings or lengths not in ([], ["0"])))

    def _parse(self, parser: HttpResponseParser, part: bytes) -> None:
        try:
            parser.feed_data(part)
        except HttpParserUpgrade:
            raise BrokenAnswerError("it switches protocols, which nobody asked for") from None
        except HttpParserError as error:
            if not self.whole:
                raise BrokenAnswerError(f"it is not HTTP/1.1 ({error})") from None
            self.surplus = True

    # -- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the header, none of what follows a body in chunks."""
        if not self.status:
            self.fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        """Record whether the endpoint keeps the connection; the parser knows it only here."""
        if self._parser is not None and not self.status:
            self._keeps = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if not self.whole:
            self.body += data

    def on_message_complete(self) -> None:
        """Record the end of an answer."""
        self.whole = True
