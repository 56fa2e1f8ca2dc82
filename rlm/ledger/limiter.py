"""The adapter for `limits`: moving windows in Redis, by the clock of Redis, several rules of an endpoint in one step.

The moving window of `limits` uses the caller's clock and whole seconds, and its name includes the amount, so a changed
limit would open an empty window. Here RLM's own storage is used by its moving-window strategy: each endpoint has one
list of stamps for all its rules, whatever their amounts are. A shared budget has such a list as well, and a call takes
a slot in both or in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import redis
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from rlm.core.endpoint import Limit, Limited
from rlm.ledger.claims import KEEP_SECONDS, Admitted, Call, Refused, call_keys, write_note
from rlm.ledger.connect import SERVER_ID
from rlm.ledger.keys import Keys
from rlm.ledger.scripts import Script, ScriptReply
from rlm.ledger.values import MICROSECONDS


class Period(RateLimitItemPerSecond):
    """A rule as an item of `limits`; its period may be a fraction of a second."""

    def __init__(self, amount: int, seconds: float) -> None:
        super().__init__(amount)
        self.multiples = seconds  # type: ignore[assignment]  # limits declares whole seconds, but fractions work

    def key_for(self, *identifiers: object) -> str:
        """Return the window's name, only from its endpoint, so that the history survives a changed amount."""
        return str(identifiers[0])


def periods(limit: Limit) -> list[RateLimitItem]:
    """Return a limit as items of `limits`."""
    return [Period(rule.amount, rule.seconds) for rule in limit.rules]


class Slot(ScriptReply, frozen=True):
    """What `acquire_slot` answers: the stamp of a slot, or microseconds until there is one, -1 for never."""

    stamp: str = ""
    suspect: bool = False
    wait_us: int = 0


class WindowStorage(RedisStorage):
    """A storage for the moving-window strategy of `limits` with RLM's script, Redis `TIME` and the store's pool."""

    STORAGE_SCHEME = None  # type: ignore[assignment]  # keeps "redis" registered for limits' own storage
    DEPENDENCIES = {"redis": None}  # noqa: RUF012  # as in limits, without its second client library

    def __init__(self, client: redis.Redis, keys: Keys, guard_seconds: float, acquire_slot: Script) -> None:
        self._acquire = acquire_slot
        self._client = client
        self._keys = keys
        self._guard_seconds = guard_seconds
        super().__init__("redis://", connection_pool=cast("Any", client.connection_pool))

    def initialize_storage(self, _uri: str) -> None:
        """Load no scripts of `limits`; RLM's script is given."""

    def acquire(
        self,
        rules: Mapping[str, Sequence[tuple[int, float]]],
        *,
        cost: int,
        call: Call | None,
        probe_seconds: float,
        limits: Mapping[str, tuple[str, str]] | None = None,
    ) -> Admitted | Refused:
        """Take `cost` slots in each window of `rules` if all (calls, seconds) rules allow it, else none.

        The first window is the endpoint's, the second its budget's. `limits` has the name and the text of each limit
        as it was read; if another limit is in force by now, no slot is taken.

        Raises:
            StoreError: Redis did not answer; do not assume that a slot was taken.
        """
        keys, windows = self._keys, []
        for window_id, together in rules.items():
            name, limit = (limits or {}).get(window_id, ("", ""))
            spans = [(amount, round((seconds + self._guard_seconds) * MICROSECONDS)) for amount, seconds in together]
            lists = {"window": keys.window(window_id), "health": keys.health(window_id)}
            windows.append(lists | {"name": name, "limit": limit, "rules": spans})
        reply = self._acquire(
            self._client,
            **call_keys(keys, call),
            epoch=keys.epoch,
            limits=keys.limits,
            cost=cost,
            keep_us=KEEP_SECONDS * MICROSECONDS,
            probe_us=round(probe_seconds * MICROSECONDS),
            event_id=call.event_id if call else "",
            note=write_note(call.lane, call.endpoint, list(rules)) if call else "",
            windows=windows,
            server=SERVER_ID,
        )
        slot = Slot.read(reply)
        if slot.stamp:
            return Admitted(slot.stamp, suspect=slot.suspect)
        return Refused(None if slot.wait_us < 0 else slot.wait_us / MICROSECONDS)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take slots as the original strategy requests them."""
        taken = self.acquire({key: [(limit, expiry)]}, cost=amount, call=None, probe_seconds=expiry)
        return isinstance(taken, Admitted)


class EndpointLimiter(MovingWindowRateLimiter):
    """The moving-window strategy of `limits` with a result that is more than yes or no."""

    def __init__(self, storage: WindowStorage) -> None:
        super().__init__(storage)
        self._windows = storage

    def acquire(self, limited: Iterable[Limited], *, call: Call | None, probe_seconds: float) -> Admitted | Refused:
        """Take one slot in each window of `limited` if all of them allow it; see `WindowStorage.acquire`."""
        rules, limits = {}, {}
        for one in limited:
            rules[one.window_id] = [(item.amount, item.get_expiry()) for item in periods(one.limit)]
            limits[one.window_id] = one.name, one.limit.text
        return self._windows.acquire(rules, cost=1, call=call, probe_seconds=probe_seconds, limits=limits)
