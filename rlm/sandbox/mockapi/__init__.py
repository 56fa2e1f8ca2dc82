"""The mock API, which enforces limits strictly, as a server in a thread or a process; RLM is judged by it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from io import FileIO
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from rlm.core.clock import Clock, system_clock
from rlm.core.endpoint import EventType
from rlm.core.errors import ListenError
from rlm.sandbox.mockapi.connection import ClientConnection
from rlm.sandbox.mockapi.endpoint import Faults
from rlm.sandbox.mockapi.service import Arrival, EndpointSummary, Service, exceeded, recount

__all__ = ["Arrival", "EndpointSummary", "Faults", "MockApi", "exceeded", "recount"]

#: Most clients that wait to be accepted: all workers of a system connect at the same instant.
_WAITING = 1024


class MockApi(Service):
    """An HTTP server that strictly enforces the limits of `types`, and of their budgets, by arrival.

    Only the paths of the endpoints' URLs matter, so the URLs may name any host and port. Use it as a context manager or
    with `start` and `stop`. Started again it is the same server on the same port, with its log and its windows: so a
    test simulates an outage. Port 0 picks a free one, which `port` and `url` then show. `log_path` gets a JSON line for
    each arrival, stamped by `clock`; answers are always sent in real time. `seed` makes random faults repeatable. Raise
    ConfigurationError if two endpoints have the same path.
    """

    def __init__(
        self,
        types: Sequence[EventType],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        log_path: Path | None = None,
        clock: Clock = system_clock,
        seed: int | None = None,
    ) -> None:
        super().__init__(types, clock, seed)
        self._log_path = log_path
        self.host = host
        self.port = port
        #: The addresses on which other hosts may reach it, once it listens.
        self.open_to: tuple[str, ...] = ()
        self._thread: threading.Thread | None = None
        self._end: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        """Its address without a path, `http://127.0.0.1:8090`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def set_fault(self, endpoint: str, **fields: Any) -> None:
        """Replace the faults of `endpoint` (`"*"`: of all) by the `Faults` in `fields`, like `set_faults`."""
        self.set_faults({endpoint: fields})

    def start(self) -> None:
        """Serve from its own thread; return once it listens. Raises ListenError, or an OSError if the log fails."""
        if self._thread:
            return
        listening: Future[None] = Future()
        thread = threading.Thread(target=self._run, args=(listening,), name="mock-api", daemon=True)
        thread.start()
        listening.result()
        self._thread = thread

    def stop(self) -> None:
        """Cut all connections and stop listening; do nothing if it does not listen."""
        if self._thread:
            self._end()
            self._thread.join()
            self._thread = None

    def serve_forever(self, on_listening: Callable[[], None]) -> None:
        """Serve from this thread, which must be the main one, until SIGTERM or SIGINT. Raises the errors of `start`."""

        def ready() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._end)
            on_listening()

        asyncio.run(self._serve(ready))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, listening: Future[None]) -> None:
        try:
            asyncio.run(self._serve(lambda: listening.set_result(None)))
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)

    async def _serve(self, ready: Callable[[], None]) -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._end = partial(loop.call_soon_threadsafe, ended.set)
        alive: set[ClientConnection] = set()
        server = await self._listen(alive)
        try:
            with FileIO(self._log_path, "a") if self._log_path else nullcontext() as self._log:
                ready()
                await ended.wait()
        finally:
            server.close()
            for connection in list(alive):
                connection.reset()
            await asyncio.sleep(0)  # the sockets are closed in this turn of the loop

    async def _listen(self, alive: set[ClientConnection]) -> asyncio.Server:
        loop = asyncio.get_running_loop()

        def connect() -> ClientConnection:
            return ClientConnection(self, self._clock.monotonic, alive)

        try:
            server = await loop.create_server(connect, self.host, self.port, backlog=_WAITING)
        except OSError as error:
            raise ListenError.at(self.host, self.port, error) from error
        self.port = server.sockets[0].getsockname()[1]
        addresses = [str(one.getsockname()[0]) for one in server.sockets]
        self.open_to = tuple(one for one in addresses if not ip_address(one.partition("%")[0]).is_loopback)
        return server
