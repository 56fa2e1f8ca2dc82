"""Running self-tests, and the remains of those that were killed. Each uses its own prefix.

Its keys begin with `PREFIX-test-` and a random part; PREFIX is `redis.prefix`. The hash `PREFIX-test-running` has an
entry for each from before its first key is written until after its last key is deleted.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from rlm.core.errors import StoreForbiddenError
from rlm.ledger.connect import translated
from rlm.ledger.front import StoreFront
from rlm.ledger.keys import Keys
from rlm.ledger.processes import Role
from rlm.ledger.scripts import Command, Part
from rlm.settings import settings_under

#: A self-test takes seconds. One that is older than this was killed, and its keys may be deleted; seconds.
LEFT_SECONDS = 3600.0

#: A prefix has at most 50 characters.
_LONGEST_BASE = 30
_RANDOM_BYTES = 5
_CHUNK = 500
#: The broker's queue and its keys, as the script of Dramatiq's broker names them.
_QUEUE = "rlm"
_BROKERS = ("__heartbeats__", *(f"{_QUEUE}{end}" for end in ("", ".msgs", ".XQ", ".XQ.msgs", ".DQ", ".DQ.msgs")))


class SelfTest(msgspec.Struct, frozen=True):
    """The entry of a self-test: when it began (seconds since 1970), where, and the names in its keys."""

    started_at: float
    host: str
    types: list[str] = []
    windows: list[str] = []
    events: list[str] = []


class SelfTests(Part):
    """The register of self-tests, and the only code that deletes keys by prefix: a self-test's, never RLM's."""

    def __init__(self, store: StoreFront) -> None:
        """Keep the register beside the keys of the installation of `store`."""
        super().__init__(store)
        self.base = f"{store.settings.redis.prefix[:_LONGEST_BASE]}-test"
        self._running = f"{self.base}-running"

    def new_prefix(self) -> str:
        """Return a prefix that no other self-test has."""
        return f"{self.base}-{secrets.token_hex(_RANDOM_BYTES)}"

    def _is_own(self, prefix: str) -> bool:
        """Return whether `new_prefix` makes such prefixes, because other programs could write into the register."""
        base, _, random = prefix.rpartition("-")
        return base == self.base and re.fullmatch(f"[0-9a-f]{{{2 * _RANDOM_BYTES}}}", random) is not None

    def begin(self, prefix: str, test: SelfTest) -> None:
        """Register a self-test before it writes anything."""
        self._ask("HSET", self._running, prefix, msgspec.json.encode(test))

    def end(self, prefix: str) -> None:
        """Remove a self-test whose keys are deleted from the register."""
        self._ask("HDEL", self._running, prefix)

    def left(self, now: float) -> dict[str, SelfTest]:
        """Return by prefix the self-tests older than `LEFT_SECONDS`; empty if the user may not read the register."""
        try:
            found = self._ask("HGETALL", self._running)
        except StoreForbiddenError:
            return {}
        left = {}
        for name, raw in found.items():
            prefix = name.decode(errors="replace")
            with suppress(msgspec.DecodeError):
                test = msgspec.json.decode(raw, type=SelfTest)
                if self._is_own(prefix) and 0 <= test.started_at < now - LEFT_SECONDS:
                    left[prefix] = test
        return left

    def sweep(self, prefix: str, test: SelfTest) -> int:
        """Delete the keys of a self-test; return how many there were. Raises ValueError for any other prefix."""
        return sum([self._ask("DEL", *keys) for keys in self._pages(prefix, test)])

    def remaining(self, prefix: str, test: SelfTest) -> int:
        """Return how many keys of a self-test exist."""
        return sum([self._ask("EXISTS", *keys) for keys in self._pages(prefix, test)])

    def _pages(self, prefix: str, test: SelfTest) -> Iterator[list[str]]:
        """Yield the keys of a self-test: those that SCAN finds or, without that permission, all that it may have."""
        if not self._is_own(prefix):
            raise ValueError(f"{prefix!r} is not the prefix of a self-test")
        try:
            with translated(self._client):
                found = [key.decode() for key in self._client.scan_iter(match=f"{prefix}[:_]*", count=1000)]
        except StoreForbiddenError:
            found = sorted(self._by_name(prefix, test))
        yield from (found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK))

    def _by_name(self, prefix: str, test: SelfTest) -> set[str]:
        """Return every key that a self-test may have, from its entry and its own keys.

        The entry of a process that has signed off is missing, but it expires within seconds.
        """
        keys = Keys(settings_under(self._store.settings, prefix))
        asked: list[Command] = [("LRANGE", keys.runs, 0, -1), ("GET", keys.current)]
        asked += [("ZRANGE", keys.brokers("__heartbeats__"), 0, -1)]
        runs, current, brokers, *members = self._batch([*asked, *(("SMEMBERS", keys.processes(role)) for role in Role)])
        processes = {role: {one.decode() for one in ids} for role, ids in zip(Role, members, strict=True)}
        runs = {one.decode() for one in [*runs, current] if one}
        return {
            *(value for name, value in vars(keys).items() if isinstance(value, str) and not name.startswith("_")),
            *(key(run_id) for run_id in runs for key in (keys.run, keys.tally, keys.timings)),
            *(keys.processes(role) for role in processes),
            *(keys.process(role, one) for role, ids in processes.items() for one in ids),
            *(key(one) for one in processes[Role.WORKER] for key in (keys.calls, keys.restarted)),
            *(key(name) for name in test.types for key in (keys.pending, keys.retried)),
            *(key for name in test.types for key in keys.holders(name)),
            *(key(window) for window in test.windows for key in (keys.window, keys.health, keys.well)),
            *(keys.event(one) for one in test.events),
            *map(keys.brokers, _BROKERS),
            *(keys.brokers(f"__acks__.{one.decode()}.{_QUEUE}") for one in brokers),
        }
