"""The adapter over `limits`: moving windows in Redis, by the clock of Redis, several rules of an endpoint in one step.

`limits` stamps its moving window with the caller's clock, counts whole seconds, and names the window after the amount,
so that a changed limit opens an empty one. Here a storage of our own stands under its moving-window strategy: one list
of stamps an endpoint serves all its rules, whatever their amounts are today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from rlm.event import type_of
from rlm.store.connect import translated
from rlm.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import redis
    from limits import RateLimitItem

    from rlm.endpoint import Endpoint, Limit
    from rlm.store.keys import Keys

#: Slots are kept this long at least, for the log of calls sent; longer where a rule looks further back.
KEEP_SECONDS = 24 * 3600

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Admitted:
    """A slot was taken. `stamp` is its id; `suspect`: the endpoint failed or rested, so a good answer is reported."""

    stamp: str
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """No slot is free. `retry_after` is when to ask again, in seconds; None for never."""

    retry_after: float | None


@dataclass(frozen=True, slots=True)
class View:
    """How an endpoint's window looks: slots free now, seconds until the next is, seconds of rest left."""

    free: int
    wait_seconds: float
    rest_seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """What a slot is taken for: an event in a lane of a worker. Noted with the slot, should the worker die."""

    worker_id: str
    event_id: str
    endpoint: str


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

    def __init__(self, client: redis.Redis, keys: Keys, guard_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._guard_seconds = guard_seconds
        super().__init__("redis://", connection_pool=cast("Any", client.connection_pool))

    def initialize_storage(self, _uri: str) -> None:
        """Load our script in place of the stock ones."""
        self._acquire = Script("acquire_slot")

    def acquire(
        self, window_id: str, rules: Iterable[tuple[int, float]], *, cost: int, call: Call | None, probe_seconds: float
    ) -> Admitted | Refused:
        """Take `cost` slots of a window if all `rules` (calls, seconds) allow it.

        Raises:
            StoreError: Redis did not answer; no slot may be taken for granted.
        """
        noted = f"{window_id}|%s|{call.endpoint}" if call else ""
        args: list[str | int] = [
            cost,
            KEEP_SECONDS * _MICROSECONDS,
            round(probe_seconds * _MICROSECONDS),
            call.event_id if call else "",
            noted,
        ]
        for amount, seconds in rules:
            args += [amount, round((seconds + self._guard_seconds) * _MICROSECONDS)]
        keys = [self._keys.window(window_id), self._keys.health(window_id)]
        if call:
            keys += [self._keys.calls(call.worker_id), self._keys.inflight(type_of(call.event_id))]
        granted, wait, stamp, suspect = self._acquire(self._client, keys, args)
        if granted:
            return Admitted(stamp.decode(), suspect=bool(suspect))
        return Refused(None if wait < 0 else wait / _MICROSECONDS)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take slots as the stock strategy asks for them."""
        taken = self.acquire(key, [(limit, expiry)], cost=amount, call=None, probe_seconds=expiry)
        return isinstance(taken, Admitted)


class EndpointLimiter(MovingWindowRateLimiter):
    """The moving-window strategy of `limits` with an outcome that tells more than yes or no."""

    def __init__(self, storage: WindowStorage) -> None:
        super().__init__(storage)
        self._windows = storage

    def acquire(
        self, items: Sequence[RateLimitItem], window_id: str, *, call: Call | None, probe_seconds: float
    ) -> Admitted | Refused:
        """Take one slot if every one of `items` allows it, in one atomic step; see `WindowStorage.acquire`."""
        rules = [(item.amount, item.get_expiry()) for item in items]
        return self._windows.acquire(window_id, rules, cost=1, call=call, probe_seconds=probe_seconds)


class Windows:
    """The windows of all endpoints: take a slot, give it back or block it, rest an endpoint, look."""

    def __init__(self, client: redis.Redis, keys: Keys, guard_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._guard_seconds = guard_seconds
        self._limiter = EndpointLimiter(WindowStorage(client, keys, guard_seconds))
        self._return_slot = Script("return_slot")
        self._look = Script("look_windows")
        self._rest = Script("rest_endpoint")
        self._reopen = Script("reopen_endpoint")

    def acquire(self, endpoint: Endpoint, call: Call | None = None) -> Admitted | Refused:
        """Take a slot of `endpoint` for `call`; a probe of a rested endpoint may take its time-out and two seconds."""
        probe_seconds = endpoint.timeout_seconds + 2
        return self._limiter.acquire(
            periods(endpoint.limit), endpoint.window_id, call=call, probe_seconds=probe_seconds
        )

    def give_back(self, endpoint: Endpoint, slot: Admitted, call: Call | None = None) -> None:
        """Give a slot back, by its own id, for which no call was sent."""
        self._move(endpoint, slot, call, "")

    def block(self, endpoint: Endpoint, slot: Admitted, call: Call | None = None) -> Admitted:
        """Block a slot for a period from now, for a call that left late or got no answer; return it as it is now."""
        stamp = self._move(endpoint, slot, call, f"{endpoint.window_id}|%s|{endpoint.name}")
        return Admitted(stamp, suspect=slot.suspect)

    def _move(self, endpoint: Endpoint, slot: Admitted, call: Call | None, noted: str) -> str:
        keys = [self._keys.window(endpoint.window_id)]
        if call:
            keys += [self._keys.calls(call.worker_id), self._keys.inflight(type_of(call.event_id))]
        reply = self._return_slot(self._client, keys, [slot.stamp, call.event_id if call else "", noted])
        return cast("bytes", reply).decode()

    def rest(self, endpoint: Endpoint, seconds: float) -> float:
        """Rest an endpoint for `seconds` for all workers, as it asked; return how long it rests from now, seconds."""
        return self._rest_by(endpoint, seconds, seconds, failing=0)

    def fail(self, endpoint: Endpoint, *, first_rest_seconds: float, failing: int) -> float:
        """Count a failure; from `failing` in a row on the endpoint rests, twice as long each time, a period at most.

        Returns how long it rests from now, seconds; 0 when it does not.
        """
        return self._rest_by(endpoint, first_rest_seconds, endpoint.limit.longest_seconds, failing=failing)

    def _rest_by(self, endpoint: Endpoint, seconds: float, longest_seconds: float, *, failing: int) -> float:
        args = [round(seconds * _MICROSECONDS), round(longest_seconds * _MICROSECONDS), failing]
        return float(self._rest(self._client, [self._keys.health(endpoint.window_id)], args)) / _MICROSECONDS

    def reopen(self, endpoint: Endpoint) -> None:
        """End the probing of an endpoint that answered well."""
        self._reopen(self._client, [self._keys.health(endpoint.window_id)])

    def look(self, endpoints: Sequence[Endpoint]) -> tuple[int, dict[str, View]]:
        """Look at several windows at one instant: the time there (microseconds of Redis time), a view by name."""
        keys, args = [], [KEEP_SECONDS * _MICROSECONDS]
        for endpoint in endpoints:
            keys += [self._keys.window(endpoint.window_id), self._keys.health(endpoint.window_id)]
            args.append(len(endpoint.limit.rules))
            for rule in endpoint.limit.rules:
                args += [rule.amount, round((rule.seconds + self._guard_seconds) * _MICROSECONDS)]
        now, *views = self._look(self._client, keys, args)
        return int(now), {
            endpoint.name: View(free, wait / _MICROSECONDS, rest / _MICROSECONDS)
            for endpoint, (free, wait, rest) in zip(endpoints, views, strict=True)
        }

    def ages(self, endpoint: Endpoint, now_us: int) -> tuple[float, ...]:
        """Return how long ago each slot was taken that still counts for a rule, seconds, newest first."""
        amount = max(rule.amount for rule in endpoint.limit.rules)
        span = endpoint.limit.longest_seconds + self._guard_seconds
        ages = ((now_us - stamp) / _MICROSECONDS for stamp in self.stamps(endpoint, amount))
        return tuple(max(0.0, age) for age in ages if age < span)

    def stamps(self, endpoint: Endpoint, number: int) -> list[int]:
        """Return the stamps of the newest `number` slots, microseconds of Redis time, newest first."""
        with translated():
            found = cast(
                "list[bytes]", self._client.lrange(self._keys.window(endpoint.window_id), 0, max(0, number - 1))
            )
        return [int(stamp) for stamp in found]
