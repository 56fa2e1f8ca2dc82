"""The front of the store: the connection, and the parts that show which processes are there and request runs.

It imports a fraction of the store. A command that requests a run needs no more, and the run waits for it.
"""

from __future__ import annotations

from typing import Self

import redis

from rlm import SCHEMA
from rlm.core.errors import StoreUnfitError
from rlm.core.text import safe_line
from rlm.ledger.clock_of_redis import RedisClock
from rlm.ledger.connect import make_client, text
from rlm.ledger.keys import Keys
from rlm.ledger.leases import Leases, Schedule
from rlm.ledger.processes import Processes
from rlm.ledger.scripts import ask
from rlm.ledger.server import RemoteServer, Server
from rlm.settings import Settings


class StoreFront:
    """A connection to Redis, and the parts that show who is there; a context manager.

    Creating it is cheap, because it connects at the first command. Its parts raise what the store raises.
    """

    def __init__(
        self, settings: Settings, url: str, server: Server | None = None, *, answer_seconds: float = 5.0
    ) -> None:
        """Use `url`, which is that of `server`, and wait `answer_seconds` for an answer."""
        self.settings = settings
        self.url = url
        self._server = server or RemoteServer(url)
        self.client: redis.Redis = make_client(url, socket_timeout=answer_seconds)
        self.keys = Keys(settings.redis.prefix, settings.queue)
        self.clock = RedisClock(settings.run.guard_seconds)
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

    def require_schema(self, *, claim: bool = False) -> None:
        """Return if the keys have the form of this version, or there are none; then `claim` notes the form.

        Raises:
            StoreUnfitError: it has the form of another version.
        """
        if claim:
            ask(self.client, "HSETNX", self.keys.lease, "schema", SCHEMA)
        raw = ask(self.client, "HGET", self.keys.lease, "schema")
        if raw not in {None, b"%d" % SCHEMA}:
            remedy = (
                "use the rlm that wrote it; or stop its processes and carry over what is unsettled: its "
                "`rlm queue list --json`, piped into `rlm queue push` of this one with another redis.prefix"
            )
            prefix, other = self.settings.redis.prefix, safe_line(text(raw))
            what = (
                f"what is kept under the prefix {prefix} has the form {other} of another version; this rlm has {SCHEMA}"
            )
            raise StoreUnfitError(what, remedy)

    def close(self) -> None:
        """Close its connections."""
        self.client.close()


def open_front(settings: Settings, server: Server) -> StoreFront:
    """Return the front of the store on the `server` of `settings`, which runs while its context is open."""
    return StoreFront(settings, server.url, server)
