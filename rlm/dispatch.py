"""One HTTP call for one event, and one classified outcome (CONTRACT 2). Knows nothing of Redis.

The steps are apart because a slot is taken between them: `connect` first, so that a slot taken next is used at once;
then `send`; then `receive`. Whatever an endpoint does, `receive` ends by the deadline it was given.
"""

from __future__ import annotations

import email.utils
import heapq
import http.client
import itertools
import math
import re
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

import msgspec
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from rlm import __version__
from rlm.clock import system_clock
from rlm.errors import DispatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from urllib3.response import HTTPResponse

    from rlm.endpoint import Endpoint

#: Bytes of an answer that are read so that its connection can be used again; one that sends more is cut.
MAX_ANSWER_BYTES = 262_144
#: A `Retry-After` beyond this many seconds is taken for a mistake and shortened to it.
MAX_RETRY_AFTER_SECONDS = 86_400.0

_EXCERPT_CHARACTERS = 200
_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503
_SERVER_ERRORS = range(500, 600)
_TRY_AGAIN = frozenset({408, 425})


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint took the event (2xx), `seconds` after the call was sent."""

    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Throttled:
    """The endpoint wants a rest (429, or 503 with `Retry-After`); None where it did not say how long, in seconds."""

    status: int
    seconds: float
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The endpoint will never take the event (other 4xx, 3xx)."""

    status: int
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The event may be sent again: 408, 425, other 5xx, or no answer at all, then `seconds` is None."""

    detail: str
    seconds: float | None


Outcome: TypeAlias = Delivered | Throttled | Rejected | Unreachable


class UnreachableError(DispatchError):
    """Raised when no connection to an endpoint could be opened; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent of an event. `attempt` counts over all runs from 1; `item` is as it came, JSON."""

    event_id: str
    event_type: str
    wallet_name: str
    run_id: str
    attempt: int
    item: bytes

    def encode(self) -> bytes:
        """Write the body."""
        return msgspec.json.encode(
            {
                "event_id": self.event_id,
                "event_type": self.event_type,
                "wallet_name": self.wallet_name,
                "run_id": self.run_id,
                "attempt": self.attempt,
                "item": msgspec.Raw(self.item),
            }
        )


class Cutter:
    """Cuts connections at their deadlines: a time-out of the socket alone would let an answer trickle in for ever."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, socket.socket]] = []
        self._numbers = itertools.count()
        self._live: set[int] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def until(self, deadline: float, connection: HTTPConnection) -> Iterator[None]:
        """Cut `connection` if the block is still running at `deadline` (monotonic seconds)."""
        number = next(self._numbers)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._cut, name="cutter", daemon=True)
                self._thread.start()
            if connection.sock is not None:
                heapq.heappush(self._due, (deadline, number, connection.sock))
                self._live.add(number)
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._live.discard(number)

    def _cut(self) -> None:
        with self._changed:
            while True:
                now = system_clock.monotonic()
                while self._due and (self._due[0][1] not in self._live or self._due[0][0] <= now):
                    _, number, sock = heapq.heappop(self._due)
                    if number in self._live:
                        with suppress(OSError):  # the base method: TLS would try to say goodbye first
                            socket.socket.shutdown(sock, socket.SHUT_RDWR)
                self._changed.wait(self._due[0][0] - now if self._due else None)


class Dispatcher:
    """Sends events from a pool of kept-alive connections, shared by the lanes of one worker process.

    `resolve_headers` gives an endpoint's configured headers with their secrets. No redirect is followed, no proxy is
    taken from the environment.
    """

    def __init__(self, resolve_headers: Callable[[Endpoint], Mapping[str, str]]) -> None:
        self._resolve_headers = resolve_headers
        self._idle: dict[str, list[HTTPConnection]] = {}
        self._lock = threading.Lock()
        self._cutter = Cutter()

    def connect(self, endpoint: Endpoint, seconds: float) -> HTTPConnection:
        """Return an open connection to `endpoint`, kept alive or new, within `seconds`.

        Resolving its name is part of that time, and may outlast it: nothing cuts a resolver short.

        Raises:
            UnreachableError: it refused or did not answer in time; nothing was sent.
        """
        while True:
            with self._lock:
                idle = self._idle.setdefault(endpoint.url, [])
                connection = idle.pop() if idle else None
            if connection is None:
                return _open(endpoint, seconds)
            if connection.is_connected:
                return connection
            connection.close()  # the server has closed it meanwhile

    def keep(self, endpoint: Endpoint, connection: HTTPConnection) -> None:
        """Put a connection back that nothing is under way on."""
        with self._lock:
            self._idle.setdefault(endpoint.url, []).append(connection)

    def send(self, connection: HTTPConnection, endpoint: Endpoint, request: Request, deadline: float) -> str:
        """Send a request by `deadline` (monotonic seconds); return '' when it left, else why it may not have."""
        headers = {
            **self._resolve_headers(endpoint),
            "Content-Type": "application/json",
            "Idempotency-Key": request.event_id,
            "User-Agent": f"rlm/{__version__}",
        }
        url = urlsplit(endpoint.url)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        _limit(connection.sock, deadline)
        try:
            with self._cutter.until(deadline, connection):
                connection.request("POST", target, body=request.encode(), headers=headers, preload_content=False)
        except ValueError:  # its message quotes the header, which may be a secret
            connection.close()
            return "the request could not be sent: a configured header is not what HTTP allows"
        except (OSError, HTTPError, http.client.HTTPException) as error:
            connection.close()
            return f"the request could not be sent whole: {error}"
        return ""

    def receive(self, connection: HTTPConnection, endpoint: Endpoint, sent_at: float, deadline: float) -> Outcome:
        """Read the answer by `deadline` (monotonic seconds) and classify it. The connection is kept or closed."""
        try:
            with self._cutter.until(deadline, connection):
                _limit(connection.sock, deadline)
                answer = connection.getresponse()
                excerpt, whole = _read(answer)
            if system_clock.monotonic() >= deadline:  # to the reader a cut looks like the answer's end
                raise TimeoutError
        except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
            connection.close()
            waited = system_clock.monotonic() - sent_at
            if system_clock.monotonic() >= deadline:
                return Unreachable(f"no answer within {waited:.1f} s", None)
            return Unreachable(f"the connection broke after {waited:.1f} s: {error}", None)
        seconds = system_clock.monotonic() - sent_at
        if whole and connection.is_connected and answer.headers.get("connection", "").lower() != "close":
            self.keep(endpoint, connection)
        else:
            connection.close()
        return classify(answer.status, answer.headers, excerpt, seconds)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for connection in itertools.chain.from_iterable(self._idle.values()):
                connection.close()
            self._idle.clear()


def classify(status: int, headers: Mapping[str, str], excerpt: str, seconds: float) -> Outcome:
    """Turn an answer into an outcome, as CONTRACT 2 says."""
    if 200 <= status < 300:  # noqa: PLR2004  # the range of success, as HTTP counts
        return Delivered(status, seconds)
    retry_after = headers.get("retry-after")
    if status == _TOO_MANY_REQUESTS or (status == _UNAVAILABLE and retry_after is not None):
        return Throttled(status, seconds, parse_retry_after(retry_after, system_clock.now()))
    detail = f"HTTP {status}{f': {excerpt}' if excerpt else ''}"
    if status in _TRY_AGAIN or status in _SERVER_ERRORS:
        return Unreachable(detail, seconds)
    return Rejected(status, seconds, detail)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read a `Retry-After` (seconds or an HTTP date) as seconds from `now` (since 1970); None for none or nonsense."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


def _open(endpoint: Endpoint, seconds: float) -> HTTPConnection:
    url = urlsplit(endpoint.url)
    host = url.hostname or ""
    make = _PromptTls if url.scheme == "https" else _Prompt
    connection = make(host, url.port, timeout=seconds)
    try:
        connection.connect()
    except (OSError, HTTPError, UnicodeError) as error:  # the last of a name that cannot be one
        connection.close()
        raise UnreachableError(f"no connection to {host}:{connection.port}: {error}") from error
    return connection


class _Prompt(HTTPConnection):
    """Connects within its time-out in all, where the library gives that much to each address of the host."""

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; what is left of the time is that of the TLS handshake."""
        deadline = system_clock.monotonic() + cast("float", self.timeout)
        failure = OSError("its name has no address")
        for *kind, _, address in socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM):
            try:
                return _reach(socket.socket(*kind), address, self.socket_options or (), deadline)
            except OSError as error:
                failure = error
        raise failure


class _PromptTls(_Prompt, HTTPSConnection):
    """The same over TLS."""


def _reach(sock: socket.socket, address: Any, options: Iterable[Any], deadline: float) -> socket.socket:
    try:
        for option in options:
            sock.setsockopt(*option)
        _limit(sock, deadline)
        sock.connect(address)
        _limit(sock, deadline)
    except OSError:
        sock.close()
        raise
    return sock


def _limit(sock: socket.socket | None, deadline: float) -> None:
    if sock is not None:
        sock.settimeout(max(0.001, deadline - system_clock.monotonic()))


def _read(answer: HTTPResponse) -> tuple[str, bool]:
    """Read an answer; return the beginning of its text, made safe to show, and whether it was read to its end.

    Raises HTTPException for one that breaks off: read by pieces, the library would let that pass.
    """
    body = answer.read(MAX_ANSWER_BYTES, decode_content=False)
    whole = len(body) < MAX_ANSWER_BYTES
    if whole and answer.length_remaining:
        raise http.client.IncompleteRead(body, answer.length_remaining)
    text = body[: 4 * _EXCERPT_CHARACTERS].decode("utf-8", "replace")
    return re.sub(r"[^\x20-\x7e]+", " ", text)[:_EXCERPT_CHARACTERS].strip(), whole
