"""The front of the store: the connection, and what asks who is there and for a run.

It imports a fraction of what the store does. A command that asks for a run needs no more, and the run waits for it.
"""

from __future__ import annotations

from typing import Self

import redis

from rlm.ledger.client import Replicas
from rlm.ledger.connect import make_client
from rlm.ledger.keys import Keys
from rlm.ledger.leases import Leases, Schedule
from rlm.ledger.processes import Processes
from rlm.ledger.scripts import ask
from rlm.ledger.server import RemoteServer, Server
from rlm.settings import Settings


class StoreFront:
    """A connection to Redis, and what tells who is there; to be used as a context manager.

    Cheap to make: it connects at the first command. What it has raises what the store raises.
    """

    def __init__(
        self, settings: Settings, url: str, server: Server | None = None, *, answer_seconds: float = 5.0
    ) -> None:
        """Look at `url`, the `server`'s, waiting `answer_seconds` for an answer."""
        self.settings = settings
        self.url = url
        self._server = server or RemoteServer(url)
        self.client: redis.Redis = make_client(
            url,
            socket_timeout=answer_seconds,
            replicas=Replicas(settings.redis.wait_replicas, settings.redis.wait_milliseconds),
        )
        self.keys = Keys(settings)
        self.leases = Leases(self)
        self.schedule = Schedule(self)
        self.processes = Processes(self)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.close()
        finally:
            self._server.__exit__(*exc)

    def ping(self) -> None:
        """Return once Redis has answered."""
        ask(self.client, "PING")

    def close(self) -> None:
        """Close its connections."""
        self.client.close()


def open_front(settings: Settings, server: Server) -> StoreFront:
    """Return the front of the store on the `server` of `settings`, which runs for as long as its context."""
    return StoreFront(settings, server.url, server)
