"""Serves the application until a signal: uvicorn in a thread, with bounds and a time-out."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import threading
from contextlib import closing
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rlm.core.errors import ConfigurationError, ListenError
from rlm.processes.signals import StopSignals
from rlm.web.access import is_loopback
from rlm.web.answers import MOST_BYTES

#: Seconds from one answer on a connection to the next; then it is cut: its client sent no complete request, or does
#: not read. An answer takes longer only if Redis hangs, and Prometheus has given up by then.
PATIENCE_SECONDS = 20.0
#: Seconds for open answers when the process is to end. Nothing is lost if one is cut.
GRACE_SECONDS = 1
#: Most simultaneous connections, at most half of the file descriptors; a browser keeps a few.
MOST_CONNECTIONS = min(250, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
#: Clients that wait to be accepted. asyncio accepts as many in one iteration, so it is well below the descriptors.
_WAITING = 128
#: Most bytes of a request before its body, and of all that a client sends until it is answered.
_MOST_BYTES = 16_384
_MOST_WITH_BODY = _MOST_BYTES + 2 * MOST_BYTES  # as chunks, a body is longer
#: Seconds between two attempts to bind a busy address, and between two checks that the server still serves.
_AGAIN_SECONDS, _LOOK_SECONDS = 2.0, 1.0
log = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection with a time-out also before the first answer, and few bytes until an answer.

    If there are too many connections, a new one replaces the one that is longest without a request.
    """

    unanswered_bytes = 0
    patience: asyncio.TimerHandle | None = None

    @property
    def rank(self) -> tuple[bool, float]:
        """Its place among those that may be cut: first who waits for no answer, and of these the longest idle."""
        is_answering = not getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request
        return is_answering, self.patience.when() if self.patience else 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # like uvicorn
        """Make room for this connection, and start the time-out."""
        if len(self.connections) >= MOST_CONNECTIONS:
            oldest = min(cast("set[BoundedProtocol]", self.connections), key=lambda other: other.rank)
            self.connections.discard(oldest)
            oldest.transport.abort()
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read the data, unless it is too much."""
        self.unanswered_bytes += len(data)
        super().data_received(data)
        if self.unanswered_bytes > (_MOST_WITH_BODY if self.rank[0] else _MOST_BYTES):
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Refuse a request that is too long, names a host in its target, or has an encoding in HTTP/1.0.

        A proxy in front may otherwise see another host, or another end of the body.
        """
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _MOST_BYTES:
            raise ValueError("a request of more bytes than any request needs")
        if not self.url.startswith((b"/", b"*")):
            raise ValueError("a target that names a host")
        if self.parser.get_http_version() < "1.1" and any(name == b"transfer-encoding" for name, _ in self.headers):
            raise ValueError("Transfer-Encoding in HTTP/1.0")
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Restart the time-out."""
        super().on_response_complete()
        self.unanswered_bytes = 0
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time-out."""
        super().connection_lost(exc)
        if self.patience:
            self.patience.cancel()

    def _wait(self) -> None:
        if self.patience:
            self.patience.cancel()
        self.patience = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)


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
    is_dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    level = logging.WARNING
    while not stop.graceful:
        try:
            return socket.create_server(address, family=family, dualstack_ipv6=is_dual)
        except OSError as error:  # its text contains the address too
            why = ListenError.at(host, port, OSError(error.errno, os.strerror(error.errno or 0)))
            if error.errno != errno.EADDRINUSE:
                raise why from error
            log.log(level, "Waiting for the port: %s", why, extra={"action": "serve"})
            level = logging.DEBUG
        stop.wakeup.wait(_AGAIN_SECONDS)
    return None


def serve(app: Starlette, bound: socket.socket, stop: StopSignals) -> None:
    """Serve `app` on a bound socket until a signal; TERM ends it at once. Raise RuntimeError if it ends by itself."""
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
        proxy_headers=False,
        backlog=_WAITING,
        limit_concurrency=4 * MOST_CONNECTIONS,  # what a cut connection asked goes on to its end
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    with closing(bound):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="uvicorn", daemon=True)
        thread.start()
        while not stop.graceful and thread.is_alive():
            stop.wakeup.wait(_LOOK_SECONDS)
        served_on = thread.is_alive()
        server.should_exit = True
        server.force_exit = stop.immediate
        thread.join(GRACE_SECONDS + 1)
    if not served_on:
        raise RuntimeError("the HTTP server ended by itself")
    log.info("Stopped serving", extra={"action": "stop"})
