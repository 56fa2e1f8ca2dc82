"""One client's connection: it parses requests, stamps each arrival, and sends the answer when it is due."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from rlm.sandbox.mockapi.endpoint import NoAnswer

if TYPE_CHECKING:
    from rlm.sandbox.mockapi.service import Arrival, Service


#: Most bytes of a request, far more than RLM sends, so that a mistake ends soon.
MAX_REQUEST = 64 * 1024 * 1024

#: These answers have no body.
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}

#: SO_LINGER with a time of zero: closing sends an RST.
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Received:
    """A request as far as it is read. `headers` have lower-case names; `last`: the client wants no further answer."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    last: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to send `after_seconds`, with `data` as JSON. Its `arrival` gets the status just before."""

    status: int
    data: object
    headers: Mapping[str, str] = field(default_factory=dict)
    after_seconds: float = 0.0
    arrival: Arrival | None = None


def render(reply: Reply, *, last: bool) -> bytes:
    """Return an answer as bytes; `last` announces that the connection is closed after it."""
    lines = [f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}"]
    body = b"" if reply.status in _BODILESS else msgspec.json.encode(reply.data)
    own = {"Content-Type": "application/json", "Content-Length": len(body)} if body else {}
    headers = {**own, **reply.headers}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if last:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body


class _Reader:
    """The callbacks of the parser: collects the requests that are `whole`."""

    def __init__(self, on_path: Callable[[str], None]) -> None:
        self.whole: deque[Received] = deque()
        #: Bytes read of the incomplete request.
        self.size = 0
        self._on_path = on_path
        self._parser = HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        self.size += len(data)
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._request, self._target = Received(), b""

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._request.path = unquote(self._target.partition(b"?")[0].decode("latin-1"))
        self._on_path(self._request.path)

    def on_body(self, part: bytes) -> None:
        self._request.body += part

    def on_message_complete(self) -> None:
        self.size = 0
        self._request.method = self._parser.get_method().decode()
        self._request.last = not self._parser.should_keep_alive()
        self.whole.append(self._request)


class ClientConnection(asyncio.Protocol):
    """Answers one request after another; a request sent before the last answer waits."""

    def __init__(self, service: Service, monotonic: Callable[[], float], alive: set[ClientConnection]) -> None:
        self._service = service
        self._monotonic = monotonic
        self._alive = alive
        self._reader = _Reader(self._look)
        self._timer: asyncio.TimerHandle | None = None
        #: A request is being answered, or will never be.
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._alive.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it went makes no difference
        """Cancel the answer that was due."""
        self._alive.discard(self)
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Stamp the arrival first, in case these are the last bytes of a request; then parse."""
        at = self._monotonic()
        try:
            self._reader.feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._refuse(400, f"this is not a request of HTTP/1.1: {error}")
        else:
            if self._reader.size > MAX_REQUEST:
                self._refuse(413, f"a request has at most {MAX_REQUEST} bytes")
            self._answer_next(at)

    def reset(self) -> None:
        """Cut the connection with an RST."""
        self.busy = True
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the client closed first
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _look(self, path: str) -> None:
        """Cut the connection before the body is read if the endpoint is down."""
        if self._service.cuts(path):
            self.reset()

    def _refuse(self, status: int, why: str) -> None:
        self._send(Reply(status, {"error": why}), last=True)

    def _answer_next(self, at: float) -> None:
        if self.busy or not self._reader.whole:
            return
        request = self._reader.whole.popleft()
        self.busy = True
        reply = self._service.receive(request, at)
        if reply is NoAnswer.RESET:
            self.reset()
        elif isinstance(reply, Reply) and reply.after_seconds > 0:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(reply.after_seconds, lambda: self._send(reply, last=request.last))
        elif isinstance(reply, Reply):
            self._send(reply, last=request.last)

    def _send(self, reply: Reply, *, last: bool) -> None:
        if reply.arrival:  # first, so that the status is noted before anybody gets the answer
            reply.arrival.status = reply.status
        self._transport.write(render(reply, last=last))
        if last:
            self.busy = True
            self._transport.close()
            return
        self.busy = False
        if self._reader.whole:  # it was sent early, and counts as arriving now
            asyncio.get_running_loop().call_soon(lambda: self._answer_next(self._monotonic()))
