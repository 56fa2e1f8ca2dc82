"""One client's connection: stamps the arrival of each request, asks the service, answers when it is time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from rlm.sandbox.mockapi import wire
from rlm.sandbox.mockapi.faults import NoAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rlm.sandbox.mockapi.arrivals import Arrival
    from rlm.web.connections import Ceiling

#: SO_LINGER with a time of zero: closing sends a reset instead of a goodbye.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to be sent `after_seconds`. Its `arrival` is told the status just before it is."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    after_seconds: float = 0.0
    arrival: Arrival | None = None


class Service(Protocol):
    """What a connection asks."""

    def cuts(self, head: wire.Head) -> bool:
        """Tell whether the connection is to be reset before the body of this request is read."""
        ...

    def receive(self, head: wire.Head, body: bytes, at: float) -> Reply | NoAnswer:
        """Take a request whose last byte was read `at` (monotonic seconds)."""
        ...


class Connection(asyncio.Protocol):
    """Reads one request after another. What a client sends before its answer is there waits."""

    def __init__(
        self, service: Service, monotonic: Callable[[], float], alive: set[Connection], ceiling: Ceiling
    ) -> None:
        self._service = service
        self._monotonic = monotonic
        self._alive = alive
        self._ceiling = ceiling
        self.peer = ""
        self.since = 0.0
        self._buffer = bytearray()
        self._head: wire.Head | None = None
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
        """Keep the transport, and take a place among the connections; asyncio calls this once."""
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
        with contextlib.suppress(OSError):  # the client was first
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _read(self, at: float) -> None:
        try:
            head = self._head = self._head or self._take_head()
        except wire.BadRequestError as error:
            self._send(Reply(error.status, msgspec.json.encode({"error": error.detail})), last=True)
            return
        if head and self._service.cuts(head):
            self.reset()
        elif head and len(self._buffer) >= head.length:
            self._receive(head, at)

    def _take_head(self) -> wire.Head | None:
        end = self._buffer.find(b"\r\n\r\n", 0, wire.MAX_HEAD)
        if end < 0:
            if len(self._buffer) >= wire.MAX_HEAD:
                raise wire.BadRequestError(431, f"the headers are longer than {wire.MAX_HEAD} bytes")
            return None
        head = wire.parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        return head

    def _receive(self, head: wire.Head, at: float) -> None:
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
        if reply.arrival:  # first: who has the answer, in whatever thread, finds it noted
            reply.arrival.status = reply.status
        self._transport.write(wire.render(reply.status, reply.body, reply.headers, last=last))
        if last:
            self._busy = True
            self._transport.close()
            return
        self._busy = False
        self.since = self._monotonic()
        if self._buffer:  # sent before its turn, so it is read, and arrives, now
            asyncio.get_running_loop().call_soon(self.data_received, b"")
