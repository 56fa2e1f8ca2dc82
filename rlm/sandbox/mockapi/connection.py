"""One client's connection: HTTP/1.1 read and written, each arrival stamped, the answer sent when it is due."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import msgspec

from rlm.sandbox.mockapi.endpoint import NoAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rlm.sandbox.mockapi.arrivals import Arrival
    from rlm.sandbox.mockapi.service import Service
    from rlm.web.connections import Ceiling


#: Bytes a head or a body may have; far above anything RLM sends, so that a mistake ends soon.
MAX_HEAD = 65_536
MAX_BODY = 64 * 1024 * 1024

#: These answers have no body.
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}

#: SO_LINGER with a time of zero: closing sends an RST.
_RESET = struct.pack("ii", 1, 0)


class BadRequestError(Exception):
    """Raised for a request that this server does not read. It is answered with `status`, then cut."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body. `headers` have lower-case names, `length` is that of the body in bytes."""

    method: str
    path: str
    headers: Mapping[str, str]
    length: int
    last: bool  # the client wants the connection closed after the answer


def parse_head(raw: bytes) -> Head:
    """Read request line and headers, without the empty line that ends them.

    Raises:
        BadRequestError: they are malformed, or announce a body without its length (411) or too long a one (413).
    """
    request_line, *lines = raw.decode("latin-1").split("\r\n")
    try:
        method, target, version = request_line.split(" ")
    except ValueError:
        raise BadRequestError(400, f"{request_line[:100]!r} is no request line") from None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    connection = headers.get("connection", "").lower()
    last = "close" in connection or (version == "HTTP/1.0" and "keep-alive" not in connection)
    return Head(method, unquote(target.partition("?")[0]), headers, _body_length(headers), last)


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequestError(411, "a body needs its Content-Length; chunks are not read")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadRequestError(400, f"Content-Length {text[:100]!r} is no number of bytes")
    if len(text) > len(str(MAX_BODY)) or int(text) > MAX_BODY:
        raise BadRequestError(413, f"Content-Length {text[:100]} is too large; at most {MAX_BODY} bytes are read")
    return int(text)


def render(status: int, body: bytes, headers: Mapping[str, str], *, last: bool) -> bytes:
    """Return an answer with a JSON `body` as bytes; `last` announces that the connection is closed after it."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
    if status in _BODILESS:
        body = b""
    else:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if last:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to send `after_seconds`. Its `arrival` gets the status just before that."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    after_seconds: float = 0.0
    arrival: Arrival | None = None


class ClientConnection(asyncio.Protocol):
    """Reads one request after another; a request sent before the last answer waits."""

    def __init__(
        self, service: Service, monotonic: Callable[[], float], alive: set[ClientConnection], ceiling: Ceiling
    ) -> None:
        self._service = service
        self._monotonic = monotonic
        self._alive = alive
        self._ceiling = ceiling
        self.peer = ""
        self.since = 0.0
        self._buffer = bytearray()
        self._head: Head | None = None
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or never will be."""
        return self._busy

    def cut(self) -> None:
        """Close the connection at once, and no longer count it."""
        self._alive.discard(self)
        self.reset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make room for this connection, and keep the transport."""
        self._ceiling.make_room(self._alive)
        self._transport = cast("asyncio.Transport", transport)
        self.peer = (transport.get_extra_info("peername") or ("",))[0]
        self.since = self._monotonic()
        self._alive.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it went makes no difference
        """Forget the answer that was due."""
        self._alive.discard(self)
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Stamp the arrival first, in case these are the last bytes of a request; then look."""
        at = self._monotonic()
        self._buffer += data
        if not self._busy:
            self._read(at)

    def reset(self) -> None:
        """Cut the connection with an RST."""
        self._busy = True
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the client closed first
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _read(self, at: float) -> None:
        try:
            head = self._head = self._head or self._take_head()
        except BadRequestError as error:
            self._send(Reply(error.status, msgspec.json.encode({"error": error.detail})), last=True)
            return
        if head and self._service.cuts(head):
            self.reset()
        elif head and len(self._buffer) >= head.length:
            self._receive(head, at)

    def _take_head(self) -> Head | None:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD:
                raise BadRequestError(431, f"the headers are longer than {MAX_HEAD} bytes")
            return None
        head = parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        return head

    def _receive(self, head: Head, at: float) -> None:
        body = bytes(self._buffer[: head.length])
        del self._buffer[: head.length]
        self._head = None
        self._busy = True
        reply = self._service.receive(head, body, at)
        if reply is NoAnswer.RESET:
            self.reset()
        elif isinstance(reply, Reply):
            self._schedule(reply, last=head.last)

    def _schedule(self, reply: Reply, *, last: bool) -> None:
        if reply.after_seconds > 0:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(reply.after_seconds, lambda: self._send(reply, last=last))
        else:
            self._send(reply, last=last)

    def _send(self, reply: Reply, *, last: bool) -> None:
        if reply.arrival:  # first, so that any thread that has the answer finds it noted
            reply.arrival.status = reply.status
        self._transport.write(render(reply.status, reply.body, reply.headers, last=last))
        if last:
            self._busy = True
            self._transport.close()
            return
        self._busy = False
        self.since = self._monotonic()
        if self._buffer:  # it was sent early, so it arrives now
            asyncio.get_running_loop().call_soon(self.data_received, b"")
