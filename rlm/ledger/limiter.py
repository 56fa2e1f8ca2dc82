"""The adapter over `limits`: moving windows in Redis, by the clock of Redis, several rules of an endpoint in one step.

`limits` stamps its moving window with the caller's clock, counts whole seconds, and names the window after the amount,
so that a changed limit opens an empty one. Here a storage of our own stands under its moving-window strategy: one list
of stamps an endpoint serves all its rules, whatever their amounts are today. The budget that endpoints share has such a
list as well, and a call takes a slot in both or in neither.
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
from rlm.ledger.connect import MICROSECONDS, SERVER_ID, text
from rlm.ledger.keys import Keys
from rlm.ledger.scripts import Script


class Period(RateLimitItemPerSecond):
    """A rule as `limits` knows it, whose period may be a fraction of a second."""

    def __init__(self, amount: int, seconds: float) -> None:
        super().__init__(amount)
        self.multiples = seconds  # type: ignore[assignment]  # limits has whole seconds only; nothing of it minds

    def key_for(self, *identifiers: object) -> str:
        """Name the window by its endpoint alone: the amount may change, the history stays."""
        return str(identifiers[0])


def periods(limit: Limit) -> list[RateLimitItem]:
    """Turn a limit into the items of `limits`."""
    return [Period(rule.amount, rule.seconds) for rule in limit.rules]


class WindowStorage(RedisStorage):
    """A storage for the moving-window strategy of `limits`: our script, Redis `TIME`, the store's own connections."""

    STORAGE_SCHEME = None  # type: ignore[assignment]  # leave "redis" in the registry of limits to its own storage
    DEPENDENCIES = {"redis": None}  # noqa: RUF012  # limits' own; its storage would load a client of Valkey's as well

    def __init__(self, client: redis.Redis, keys: Keys, guard_seconds: float, acquire_slot: Script) -> None:
        self._acquire = acquire_slot
        self._client = client
        self._keys = keys
        self._guard_seconds = guard_seconds
        super().__init__("redis://", connection_pool=cast("Any", client.connection_pool))

    def initialize_storage(self, _uri: str) -> None:
        """Load none of the stock scripts: ours is given."""

    def acquire(
        self,
        rules: Mapping[str, Sequence[tuple[int, float]]],
        *,
        cost: int,
        call: Call | None,
        probe_seconds: float,
        limits: Mapping[str, tuple[str, str]] | None = None,
    ) -> Admitted | Refused:
        """Take `cost` slots in each window of `rules` if all of these (calls, seconds) allow it, else none in any.

        The first window is the endpoint's, a second one its budget's. `limits` has the name and the text of each limit
        as it was read: no slot is taken if another one is in force by now.

        Raises:
            StoreError: Redis did not answer; no slot may be taken for granted.
        """
        args: list[str | int] = [cost, KEEP_SECONDS * MICROSECONDS, round(probe_seconds * MICROSECONDS)]
        args += [call.event_id, write_note(call.lane, call.endpoint, list(rules))] if call else ["", ""]
        keys = [*call_keys(self._keys, call), self._keys.epoch, self._keys.limits]
        for window_id, together in rules.items():
            keys += [self._keys.window(window_id), self._keys.health(window_id)]
            args += [*(limits or {}).get(window_id, ("", "")), len(together)]
            for amount, seconds in together:
                args += [amount, round((seconds + self._guard_seconds) * MICROSECONDS)]
        granted, wait, stamp, suspect = self._acquire(self._client, keys, [*args, SERVER_ID])
        if granted:
            return Admitted(text(stamp), suspect=bool(suspect))
        return Refused(None if wait < 0 else wait / MICROSECONDS)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take slots as the stock strategy asks for them."""
        taken = self.acquire({key: [(limit, expiry)]}, cost=amount, call=None, probe_seconds=expiry)
        return isinstance(taken, Admitted)


class EndpointLimiter(MovingWindowRateLimiter):
    """The moving-window strategy of `limits` with an outcome beyond yes and no."""

    def __init__(self, storage: WindowStorage) -> None:
        super().__init__(storage)
        self._windows = storage

    def acquire(self, limited: Iterable[Limited], *, call: Call | None, probe_seconds: float) -> Admitted | Refused:
        """Take one slot in each window of `limited` if every one of these allows it; see `WindowStorage.acquire`."""
        rules, limits = {}, {}
        for one in limited:
            rules[one.window_id] = [(item.amount, item.get_expiry()) for item in periods(one.limit)]
            limits[one.window_id] = one.name, one.limit.text
        return self._windows.acquire(rules, cost=1, call=call, probe_seconds=probe_seconds, limits=limits)
