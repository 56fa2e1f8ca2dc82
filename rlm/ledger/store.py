"""One store over one connection pool: everything that RLM keeps, in one part per subject."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

from redis.exceptions import RedisError

from rlm.core.endpoint import Endpoint, all_limited, in_force
from rlm.ledger.archive import Archivist
from rlm.ledger.calls import Calls
from rlm.ledger.connect import translated
from rlm.ledger.control import Changes, Control
from rlm.ledger.events import Ledger
from rlm.ledger.front import StoreFront
from rlm.ledger.inspection import KeyFlaw, inspect, left_out
from rlm.ledger.intake import Intake
from rlm.ledger.letters import Letters
from rlm.ledger.measures import Measures, Totals
from rlm.ledger.recovery import Recovery
from rlm.ledger.rules import Rules, read_limits
from rlm.ledger.runs import Runs
from rlm.ledger.scripts import SOURCES, ask
from rlm.ledger.server import Server, server_of
from rlm.ledger.trouble import address
from rlm.ledger.turns import Turns
from rlm.ledger.values import MICROSECONDS
from rlm.ledger.windows import Windows
from rlm.settings import Settings, secrets_of
from rlm.settings.secrets import remember

log = logging.getLogger(__name__)


class Store(StoreFront):
    """What RLM keeps in Redis. Creating it is cheap, because it connects at the first command.

    Every method of it and its parts raises StoreError if Redis fails, and FencedError if `token` is no longer the
    lease's; then another conductor leads, and nothing was written.
    """

    def __init__(
        self, settings: Settings, url: str, server: Server | None = None, *, answer_seconds: float = 5.0
    ) -> None:
        """Use `url`, which is that of `server`, and wait `answer_seconds` for an answer."""
        super().__init__(settings, url, server, answer_seconds=answer_seconds)
        self.revive = self._server.revive
        self.told_until = float("-inf")  #: until then no log line that it cannot be started, monotonic seconds
        #: Types that are left out, because a key of theirs has a flaw.
        self.left_out: frozenset[str] = frozenset()
        self.archivist = Archivist(self)
        self.intake = Intake(self, self.archivist)
        self.recovery = Recovery(self, self.archivist)
        self.turns = Turns(self)
        self.rules = Rules(self)
        self.ledger = Ledger(self)
        self.runs = Runs(self)
        self.calls = Calls(self)
        self.measures = Measures(self)
        self.totals = Totals(self)
        self.letters = Letters(self)
        self.windows = Windows(self)
        self.changes = Changes(self)
        self.control = Control(self)

    def __reduce__(self) -> tuple[Callable[[Settings], Store], tuple[Settings]]:
        return _anew, (replace(self.settings, shown=()),)  # `shown` is for people, and half of the size

    def now_us(self) -> int:
        """Return the time by the clock of Redis, microseconds since 1970; records use it, whoever writes them."""
        seconds, microseconds = ask(self.client, "TIME")
        return int(seconds * MICROSECONDS + microseconds)

    def now(self) -> float:
        """Return the same in seconds since 1970."""
        return self.now_us() / MICROSECONDS

    @property
    def address(self) -> str:
        """The address of this Redis, without any login."""
        return address(self.client)

    def load_scripts(self) -> None:
        """Load all scripts in one round trip, so that the first run after a start of Redis does not wait for each.

        Errors do no harm, because a missing script is loaded on its first use.
        """
        with suppress(RedisError):
            pipeline = self.client.pipeline(transaction=False)
            for source in SOURCES.values():
                pipeline.script_load(source)
            pipeline.execute(raise_on_error=False)

    def guarded(self) -> AbstractContextManager[None]:
        """Raise a StoreError if something that is read inside cannot be understood, so that no process ends by it."""
        return translated(self.client)

    def publish_limits(self, token: int) -> None:
        """Publish the file's limits: see `Control.publish`."""
        endpoints = self.settings.endpoints.values()
        self.control.publish(token, all_limited(endpoints))

    def limits(self) -> dict[str, str]:
        """Return the limits in force as text, by the name of the endpoint or the budget."""
        limited = all_limited(self.settings.endpoints.values())
        return read_limits(ask(self.client, *self.rules.limits_command(limited)), limited)

    def endpoints(self) -> dict[str, Endpoint]:
        """Return the endpoints in use by name, with the limits in force, including those of their budgets."""
        limits = self.limits()
        return {name: in_force(endpoint, limits) for name, endpoint in self.in_use.items()}

    @property
    def in_use(self) -> Mapping[str, Endpoint]:
        """The configured endpoints by name, without those of types that are left out."""
        kinds = [one for one in self.settings.event_types if one.name not in self.left_out]
        return {one.name: one for kind in kinds for one in kind.endpoints} if self.left_out else self.settings.endpoints

    @property
    def known_types(self) -> list[str]:
        """The configured types, then others that have or had events in the ledger, without those that are left out."""
        configured = [event_type.name for event_type in self.settings.event_types]
        known = [*configured, *(name for name in self.ledger.types() if name not in configured)]
        return [name for name in known if name not in self.left_out]

    def find_flaws(self) -> list[KeyFlaw]:
        """Return the keys with a flaw, and leave their types out from now on.

        While a run is open, none of those left out comes back: its events are not in the books of that run.
        """
        flaws = inspect(self)
        self.left_out = left_out(flaws) | (self.left_out if self.runs.is_any_open() else frozenset())
        return flaws


def open_store(settings: Settings, server: Server | None = None, *, answer_seconds: float = 5.0) -> Store:
    """Return the store of `settings` on `server` as a context manager; by default it keeps an embedded one running."""
    server = server or server_of(settings)
    return Store(settings, server.url, server, answer_seconds=answer_seconds)


def _anew(settings: Settings) -> Store:
    remember(secrets_of(settings, os.environ))  # they were loaded in another process
    return open_store(settings)
