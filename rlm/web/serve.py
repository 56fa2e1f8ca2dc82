"""Serves the application until a signal: uvicorn in a thread, with bounds and time-outs."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import threading
from asyncio import get_running_loop
from contextlib import closing, suppress
from functools import partial
from typing import Any

import uvicorn
from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from rlm.core.errors import ConfigurationError, ListenError
from rlm.processes.signals import StopSignals
from rlm.web.access import is_loopback
from rlm.web.connections import AT_A_TURN, Ceiling, let_wait
from rlm.web.parameters import MOST_BYTES, MOST_DISCARDED

#: Seconds after which a connection on which nothing was sent is cut: its client sent no complete request, or does not
#: read. An answer takes longer only if Redis hangs, and Prometheus has given up by then.
PATIENCE_SECONDS = 20.0
#: Seconds for open answers when the process is to end. Nothing is lost if one is cut.
GRACE_SECONDS = 1
#: Most simultaneous connections; one more replaces another. Many more requests at once are refused (503). A browser
#: keeps a few.
MOST_CONNECTIONS = 250
#: Most bytes of a request before its body, and of all that a client sends until it is answered.
_MOST_BYTES = 16_384
_MOST_WITH_BODY = _MOST_BYTES + MOST_BYTES + MOST_DISCARDED
#: Threads that query Redis; further requests wait for one.
THREADS = 16
#: Seconds between two attempts to bind a busy address, and between two checks that the server still serves.
_AGAIN_SECONDS, _LOOK_SECONDS = 2.0, 1.0
#: The host and port of a request target that is a whole URL, as for proxies.
_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
log = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection with a time-out also before the first answer, few bytes until an answer, and a ceiling.

    A new connection replaces another if there are as many as the `ceiling` allows.
    """

    def __init__(self, ceiling: Ceiling, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.peer = ""
        self.since = self.loop.time()
        self._ceiling = ceiling
        self._unanswered_bytes = 0
        self._patience: asyncio.TimerHandle | None = None
        self.app = self._patient_with(self.app)

    def _patient_with(self, app: ASGIApp) -> ASGIApp:
        """Return `app` so that each message it sends restarts the time-out; sending waits for a slow client."""

        async def sending(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_on(message: Message) -> None:
                await send(message)
                if not self.transport.is_closing():
                    self._wait()

            await app(scope, receive, send_on)

        return sending

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def cut(self) -> None:
        """Close the connection at once, and stop counting it."""
        self.connections.discard(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # like uvicorn
        """Make room for this connection, and start the time-out."""
        self._ceiling.make_room(self.connections)  # type: ignore[arg-type]  # all are of this class
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read the data, unless it is too much."""
        self._unanswered_bytes += len(data)
        super().data_received(data)
        if self._unanswered_bytes > (_MOST_WITH_BODY if self.busy else _MOST_BYTES):
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Refuse too long a request, and an encoding in HTTP/1.0, where a proxy may see another end of the body.

        A target with a host overrides `Host`, as HTTP requires.
        """
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _MOST_BYTES:
            raise ValueError("a request of more bytes than any request needs")
        if (authority := _AUTHORITY.match(self.url)) and any(name == b"host" for name, _ in self.headers):
            self.headers[:] = [(one, authority[1] if one == b"host" else value) for one, value in self.headers]
        if self.parser.get_http_version() < "1.1" and any(name == b"transfer-encoding" for name, _ in self.headers):
            raise ValueError("Transfer-Encoding in HTTP/1.0")
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Restart the time-out."""
        super().on_response_complete()
        self._unanswered_bytes = 0
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time-out."""
        super().connection_lost(exc)
        if self._patience:
            self._patience.cancel()

    def _wait(self) -> None:
        if self._patience:
            self._patience.cancel()
        self.since = self.loop.time()
        self._patience = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)


def bind(host: str, port: int, *, has_token: bool) -> socket.socket:
    """Bind a socket to listen on; port 0 picks a free one.

    Raise ListenError if it cannot be bound, ConfigurationError if others can reach it and there is no token.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ListenError(f"--host {host!r} is not an address of this host ({error})") from error
    if not has_token and not is_loopback(str(address[0])):
        raise ConfigurationError(
            f"--host {host}: others can reach it, and there is no token to keep them out. Set web.token, best as "
            'token = "env:RLM_TOKEN", or leave --host out to listen on 127.0.0.1 only'
        )
    try:
        return socket.create_server(
            address, family=family, dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        )
    except OSError as error:  # its text contains the address too
        raise ListenError.at(host, port, OSError(error.errno, os.strerror(error.errno or 0))) from error


def bind_when_free(host: str, port: int, stop: StopSignals, *, has_token: bool) -> socket.socket | None:
    """Bind a socket like `bind`, but wait for a busy address; return None after a signal."""
    while not stop.graceful:
        with suppress(ListenError):
            return bind(host, port, has_token=has_token)
        stop.wakeup.wait(_AGAIN_SECONDS)
    return None


class _Server(uvicorn.Server):
    """uvicorn's server, which accepts only a few clients per iteration, so that the ceiling holds in between."""

    def __init__(self, config: uvicorn.Config, ceiling: Ceiling) -> None:
        super().__init__(config)
        self._ceiling = ceiling

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        current_default_thread_limiter().total_tokens = THREADS
        get_running_loop().set_exception_handler(self._ceiling.on_loop_error)
        await super().startup(sockets)
        for server in self.servers:
            let_wait(server)


def serve(app: Starlette, bound: socket.socket, stop: StopSignals) -> None:
    """Serve `app` on a bound socket until a signal; TERM ends it at once. Raise RuntimeError if it ends by itself."""
    ceiling = Ceiling(MOST_CONNECTIONS)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=partial(BoundedProtocol, ceiling),  # type: ignore[arg-type]  # uvicorn only calls it
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # anybody could fill the log with wrong requests
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=AT_A_TURN,
        limit_concurrency=4 * ceiling.most,  # cut connections count until they end
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, ceiling)
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
