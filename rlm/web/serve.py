"""Serves the application until a signal: uvicorn in a thread, so that the signals stay with the process's own loop."""

from __future__ import annotations

import logging
import select
import socket
import threading
from asyncio import get_running_loop
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from rlm.core.errors import ConfigurationError, ListenError
from rlm.web.access import is_loopback
from rlm.web.connection import Connection
from rlm.web.connections import AT_A_TURN, Ceiling, let_wait

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from rlm.processes.signals import StopSignals, Wakeup

#: Answers under way when the process is to end have this long, seconds. Nothing is lost with one that is cut.
GRACE_SECONDS = 1
#: Connections at once; one more takes the place of another. Far more requests than that at once are refused (503).
MOST_CONNECTIONS = 100
#: How often the loop looks whether the server still serves, seconds.
_LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


def bind(host: str, port: int, *, has_token: bool) -> socket.socket:
    """Bind a socket to listen on; port 0 picks a free one.

    Raises:
        ConfigurationError: others can reach the address, and no token is configured.
        ListenError: the address is not to be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ListenError(f"--host {host!r} is no address of this host ({error})") from error
    if not has_token and not is_loopback(str(address[0])):
        raise ConfigurationError(
            f"--host {host}: others can reach it, and there is no token to keep them out. Set web.token, best as "
            'token = "env:RLM_TOKEN", or leave --host out to listen on 127.0.0.1 only'
        )
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()
    except OSError as error:
        bound.close()
        raise ListenError.at(host, port, error) from error
    return bound


class _Server(uvicorn.Server):
    """uvicorn's, which accepts clients a few at a turn, so that the ceiling holds before the next come."""

    def __init__(self, config: uvicorn.Config, ceiling: Ceiling) -> None:
        super().__init__(config)
        self._ceiling = ceiling

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        get_running_loop().set_exception_handler(self._ceiling.on_loop_error)
        await super().startup(sockets)
        for server in self.servers:
            let_wait(server)


def serve(app: Starlette, bound: socket.socket, wakeup: Wakeup, stop: StopSignals) -> None:
    """Serve `app` on a bound socket until a signal; TERM ends it at once, which nobody loses anything by.

    Raises:
        RuntimeError: the server ended by itself.
    """
    ceiling = Ceiling(MOST_CONNECTIONS)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=partial(Connection, ceiling),  # type: ignore[arg-type]  # uvicorn calls it, and does nothing else
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # what is wrong with a request its sender is told; anybody could fill the log with it
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=AT_A_TURN,
        limit_concurrency=ceiling.most + 1,  # requests under way, those of connections that were cut included
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, ceiling)
    with closing(bound):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="uvicorn", daemon=True)
        thread.start()
        while not stop.graceful and thread.is_alive():
            select.select([wakeup], [], [], _LOOK_SECONDS)
            wakeup.drain()
        served_on = thread.is_alive()
        server.should_exit = True
        server.force_exit = stop.immediate
        thread.join(GRACE_SECONDS + 1)
    if not served_on:
        raise RuntimeError("the HTTP server ended by itself")
    log.info("Stopped serving", extra={"action": "stop"})
