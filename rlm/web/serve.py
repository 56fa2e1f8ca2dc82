"""The server of the application: uvicorn, with bounds and a time-out."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
from contextlib import closing
from typing import Final, cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rlm.admin.errors import ListenError
from rlm.core.errors import ConfigurationError
from rlm.processes.signals import StopSignals
from rlm.web.access import HEADERS, is_loopback

#: Most bytes of a request: more than 1,000 ids of dead letters. Its connection is cut.
MOST_BYTES: Final = 65_536
#: Seconds from one answer on a connection to the next; then it is cut: its client sent no complete request, or does
#: not read. An answer takes longer only if Redis hangs, and Prometheus has given up by then.
PATIENCE_SECONDS: Final = 20.0
#: Most simultaneous connections, at most half of the file descriptors; a browser keeps a few.
MOST_CONNECTIONS: Final = min(250, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

log = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection with few bytes until an answer, and the moment of the last one, or of its beginning.

    If there are too many connections, a new one replaces the one that is longest without a request.
    """

    unanswered_bytes, answered_at = 0, 0.0

    @property
    def rank(self) -> tuple[bool, float]:
        """Its place among those that may be cut: first who waits for no answer, and of these the longest idle."""
        is_answering = not getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request
        return is_answering, self.answered_at

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # like uvicorn
        """Make room for this connection."""
        if len(self.connections) >= MOST_CONNECTIONS:
            oldest = min(cast("set[BoundedProtocol]", self.connections), key=lambda other: other.rank)
            self.connections.discard(oldest)
            oldest.transport.abort()
        super().connection_made(transport)
        self.answered_at = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Read the data, unless it is more than a request may have."""
        self.unanswered_bytes += len(data)
        if self.unanswered_bytes > MOST_BYTES:
            self.transport.abort()
        else:
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Begin anew to count."""
        super().on_response_complete()
        self.unanswered_bytes, self.answered_at = 0, self.loop.time()


def bind(host: str, port: int, stop: StopSignals, *, has_token: bool) -> socket.socket | None:
    """Bind a socket to listen on; port 0 picks a free one. Wait for a busy address; return None after a signal.

    Raise ListenError if it is no address of this host, ConfigurationError if others can reach it and there is no token.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ListenError(f"web.listen: {host!r} is not an address of this host ({error})") from error
    if not has_token and not is_loopback(str(address[0])):
        raise ConfigurationError(
            f"web.listen: others can reach {host}, and there is no token to keep them out. Set web.token, best as "
            'token = "env:RLM_TOKEN", or listen on 127.0.0.1 only'
        )
    is_dual, level = family == socket.AF_INET6 and socket.has_dualstack_ipv6(), logging.WARNING
    while not stop.graceful:
        try:
            return socket.create_server(address, family=family, dualstack_ipv6=is_dual)
        except OSError as error:  # its text contains the address too
            if error.errno != errno.EADDRINUSE:
                raise ListenError.at(host, port, OSError(error.errno, os.strerror(error.errno or 0))) from error
            log.log(
                level, "Waiting for %s port %s: another process listens there", host, port, extra={"action": "serve"}
            )
            level = logging.DEBUG
        stop.wait(2.0)
    return None


def serve(app: Starlette, bound: socket.socket, stop: StopSignals) -> None:
    """Serve `app` on a bound socket until a signal; an answer that takes a second longer is cut."""

    async def look() -> None:
        stop.drain()
        server.should_exit |= stop.graceful  # uvicorn itself heeds TERM and INT only
        good_from = asyncio.get_running_loop().time() - PATIENCE_SECONDS
        for each in [*cast("set[BoundedProtocol]", server.server_state.connections)]:
            if each.answered_at < good_from:
                each.transport.abort()

    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # anybody could fill the log with wrong requests
        access_log=False,
        server_header=False,
        headers=[*HEADERS.items()],
        proxy_headers=False,
        backlog=128,  # asyncio accepts as many in one iteration, so it is well below the file descriptors
        limit_concurrency=4 * MOST_CONNECTIONS,  # what a cut connection asked goes on to its end
        timeout_graceful_shutdown=1,
        callback_notify=look,
        timeout_notify=0,  # each second
    )
    server = uvicorn.Server(config)
    with closing(bound):
        server.run(sockets=[bound])
    log.info("Stopped serving", extra={"action": "stop"})
