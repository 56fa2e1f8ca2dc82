"""The adapter over `limits`: moving windows in Redis, by the clock of Redis, several rules of an endpoint in one step.

`limits` stamps its moving window with the caller's clock, counts whole seconds, and names the window after the amount,
so that a changed limit opens an empty one. Here a storage of our own stands under its moving-window strategy: one list
of stamps an endpoint serves all its rules, whatever their amounts are today. The budget that endpoints share has such a
list as well, and a call takes a slot in both or in neither.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.core.event import type_of
from rlm.core.window import WindowState
from rlm.ledger.connect import ESCAPED, translated
from rlm.ledger.control import Refusals
from rlm.ledger.scripts import Script, run_many

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import redis
    from limits import RateLimitItem
    from redis.client import Pipeline

    from rlm.core.endpoint import Endpoint, Limit, Limited
    from rlm.ledger.keys import Keys

#: So many slots are remembered, the newest, that count from a later moment than their calls were sent.
MOST_MOVED = 100_000
#: Slots are kept this long at least, for the log of calls sent; longer where a rule looks further back.
KEEP_SECONDS = 24 * 3600

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Admitted:
    """A slot was taken, in the endpoint's window and its budget's. `stamp` is its id in both.

    `suspect`: the endpoint failed or rested, so a good answer is reported.
    """

    stamp: str
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """No slot is free. `retry_after` is when to ask again, in seconds; None for never."""

    retry_after: float | None


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


@dataclass(frozen=True, slots=True)
class Failed:
    """What a failure did: how long the endpoint rests from now, 0 where it does not, and whether it did not before."""

    rest_seconds: float
    opened: bool


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
        self,
        rules: Mapping[str, Sequence[tuple[int, float]]],
        *,
        cost: int,
        call: Call | None,
        probe_seconds: float,
        limits: Mapping[str, tuple[str, str]] | None = None,
    ) -> Admitted | Refused:
        """Take `cost` slots in each window of `rules` if all of these (calls, seconds) allow it, else none in any.

        The first window is the endpoint's, a second one its budget's. `limits` tells whose limit each is, and its text
        as it was read: where another is in force by now, no slot is taken.

        Raises:
            StoreError: Redis did not answer; no slot may be taken for granted.
        """
        args: list[str | int] = [
            cost,
            KEEP_SECONDS * _MICROSECONDS,
            round(probe_seconds * _MICROSECONDS),
            call.event_id if call else "",
            _note(call.endpoint, *rules) if call else "",
        ]
        keys = [*_call_keys(self._keys, call), self._keys.epoch, self._keys.limits]
        for window_id, together in rules.items():
            keys += [self._keys.window(window_id), self._keys.health(window_id)]
            args += [*(limits or {}).get(window_id, ("", "")), len(together)]
            for amount, seconds in together:
                args += [amount, round((seconds + self._guard_seconds) * _MICROSECONDS)]
        granted, wait, stamp, suspect = self._acquire(self._client, keys, args)
        if granted:
            return Admitted(stamp.decode(errors=ESCAPED), suspect=bool(suspect))
        return Refused(None if wait < 0 else wait / _MICROSECONDS)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take slots as the stock strategy asks for them."""
        taken = self.acquire({key: [(limit, expiry)]}, cost=amount, call=None, probe_seconds=expiry)
        return isinstance(taken, Admitted)


class EndpointLimiter(MovingWindowRateLimiter):
    """The moving-window strategy of `limits` with an outcome that tells more than yes or no."""

    def __init__(self, storage: WindowStorage) -> None:
        super().__init__(storage)
        self._windows = storage

    def acquire(
        self,
        items: Mapping[str, Sequence[RateLimitItem]],
        *,
        call: Call | None,
        probe_seconds: float,
        limits: Mapping[str, tuple[str, str]] | None = None,
    ) -> Admitted | Refused:
        """Take one slot in each window of `items` if every one of these allows it; see `WindowStorage.acquire`."""
        rules = {window_id: [(item.amount, item.get_expiry()) for item in some] for window_id, some in items.items()}
        return self._windows.acquire(rules, cost=1, call=call, probe_seconds=probe_seconds, limits=limits)


class Windows:
    """The windows of all endpoints and budgets: take a slot, give it back or block it, rest an endpoint, look."""

    def __init__(self, client: redis.Redis, keys: Keys, guard_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._guard_seconds = guard_seconds
        self._limiter = EndpointLimiter(WindowStorage(client, keys, guard_seconds))
        self._return_slot = Script("return_slot")
        self._look = Script("look_windows")
        self._count = Script("count_slots")
        self._rest = Script("rest_endpoint")
        self._reopen = Script("reopen_endpoint")
        self._join = Script("join_budget")

    def acquire(self, endpoint: Endpoint, call: Call | None = None) -> Admitted | Refused:
        """Take a slot of `endpoint`, and of its budget, for `call`, if both have one.

        A probe of a rested endpoint may take its time-out and two seconds. Refused, to be asked again at once, where
        another limit is in force than the endpoint was read with.
        """
        limited = all_limited([endpoint])
        return self._limiter.acquire(
            {one.window_id: periods(one.limit) for one in limited},
            call=call,
            probe_seconds=endpoint.timeout_seconds + 2,
            limits={one.window_id: (one.name, one.limit.text) for one in limited},
        )

    def give_back(self, endpoint: Endpoint, slot: Admitted, call: Call | None = None) -> None:
        """Give a slot back, by its own id, for which no call was sent."""
        self._move(endpoint, slot, call, "")

    def block(
        self, endpoint: Endpoint, slot: Admitted, call: Call | None = None, *, left_late: bool = False
    ) -> Admitted:
        """Block a slot for a period from now, for a call that got no answer; return it as it is now.

        `left_late`: it is for one that left only now.
        """
        return self._block(endpoint, slot, call, 0.0, left_late=left_late)

    def restamp(self, endpoint: Endpoint, slot: Admitted, call: Call | None, ago_seconds: float) -> Admitted:
        """Block a slot for a period from `ago_seconds` before now; never from before it was taken.

        It is for a call that may have been read later than its guard allows: return the slot as it is now.
        """
        return self._block(endpoint, slot, call, ago_seconds, left_late=False)

    def _block(
        self, endpoint: Endpoint, slot: Admitted, call: Call | None, ago_seconds: float, *, left_late: bool
    ) -> Admitted:
        noted = _note(endpoint.name, *(one.window_id for one in all_limited([endpoint])))
        stamp = self._move(endpoint, slot, call, noted, ago_seconds)
        if not left_late:
            self._note_sent(endpoint, slot.stamp, stamp, ago_seconds)
        return Admitted(stamp, suspect=slot.suspect)

    def _note_sent(self, endpoint: Endpoint, sent: str, stamp: str, ago_seconds: float) -> None:
        """Note when a call was sent whose slot was moved, to `stamp`, a period or more after that.

        Sooner, all calls sent meanwhile were admitted beside it, so that no period comes to hold more than it may. If
        the note is lost, the call counts as sent at its stamp.
        """
        limited = list(all_limited([endpoint]))
        shortest_seconds = min(rule.seconds for one in limited for rule in one.limit.rules)
        seconds = (int(stamp) - int(sent)) / _MICROSECONDS + ago_seconds
        if stamp in {sent, "0"} or seconds < shortest_seconds:
            return
        with suppress(StoreError), translated(self._client):
            pipeline = self._client.pipeline(transaction=False)
            for one in limited:
                key, longest_seconds = self._keys.moved(one.window_id), one.limit.longest_seconds + self._guard_seconds
                pipeline.lpush(key, f"{stamp} {sent}")
                pipeline.ltrim(key, 0, MOST_MOVED - 1)
                pipeline.pexpire(key, round(1000 * max(KEEP_SECONDS, longest_seconds)))
            pipeline.execute()

    def _move(self, endpoint: Endpoint, slot: Admitted, call: Call | None, noted: str, ago_seconds: float = 0.0) -> str:
        window, *budget = [self._keys.window(one.window_id) for one in all_limited([endpoint])]
        keys = [window, *_call_keys(self._keys, call), *budget]
        args: list[str | int] = [
            slot.stamp,
            call.event_id if call else "",
            noted,
            round(max(0.0, ago_seconds) * _MICROSECONDS),
        ]
        reply = self._return_slot(self._client, keys, args)
        return cast("bytes", reply).decode(errors=ESCAPED)

    def rest(self, endpoint: Endpoint, seconds: float) -> float:
        """Rest an endpoint for `seconds` for all workers, as it asked; return how long it rests from now, seconds."""
        return self._rest_by(endpoint, seconds, seconds, failing=0)[0].rest_seconds

    def refuse(self, endpoint: Endpoint, seconds: float, slot: Admitted) -> Refusals | None:
        """Rest an endpoint that refused the call of `slot` as one too many, and note the how-manieth that was.

        That is one more than it may have accepted in the shortest period of its limit, the lowest number standing. Of
        calls under way at the same time the order is not known: each may have come last. A probe's says nothing. The
        guard is counted in: so long after its slot a call may be read, and without it those would lack which the
        endpoint still counts when a period has just passed here.
        Return what is noted under this limit by now; None where this refusal is not.
        """
        shortest = min(endpoint.limit.rules, key=lambda rule: rule.seconds)
        period_us = round((shortest.seconds + self._guard_seconds) * _MICROSECONDS)
        refused: list[str | int] = [slot.stamp, period_us, endpoint.limit.text, 0 if slot.suspect else shortest.amount]
        _, noted, nth = self._rest_by(endpoint, seconds, seconds, failing=0, refused=refused)
        return Refusals(endpoint.limit.text, nth, noted, system_clock.now()) if noted else None

    def fail(self, endpoint: Endpoint, *, first_rest_seconds: float, failing: int, why: str = "") -> Failed:
        """Count a failure; from `failing` in a row on the endpoint rests, twice as long each time, a period at most.

        `why` is kept until it answers well, in a few words of `rlm.delivery.kinds`.
        """
        longest_seconds = endpoint.limit.longest_seconds
        return self._rest_by(endpoint, first_rest_seconds, longest_seconds, failing=failing, why=why)[0]

    def _rest_by(
        self,
        endpoint: Endpoint,
        seconds: float,
        longest_seconds: float,
        *,
        failing: int,
        refused: Sequence[str | int] = ("", 0, "", 0),
        why: str = "",
    ) -> tuple[Failed, int, int]:
        keys = [self._keys.health(endpoint.window_id), self._keys.window(endpoint.window_id)]
        args = [round(seconds * _MICROSECONDS), round(longest_seconds * _MICROSECONDS), failing, *refused, why]
        rest_us, opened, noted, nth = self._rest(self._client, keys, args)
        return Failed(rest_us / _MICROSECONDS, opened=bool(opened)), noted, nth

    def reopen(self, endpoint: Endpoint) -> bool:
        """End the probing of an endpoint that answered well; tell whether it was probed."""
        return bool(self._reopen(self._client, [self._keys.health(endpoint.window_id)]))

    def join_budgets(self, token: int, endpoints: Iterable[Endpoint]) -> None:
        """Have each budget count what is kept of its endpoints' calls from before they named it, each once.

        A budget with a rule that looks further back than that rests until it need not.

        Raises FencedError for a `token` that is not the lease's.
        """
        keys, calls = self._keys, []
        with translated(self._client):
            counted = cast("dict[bytes, bytes]", self._client.hgetall(keys.budgets))
        for endpoint in endpoints:
            window_id, budget = endpoint.window_id, endpoint.budget
            budget_id = budget.window_id if budget else ""
            if counted.get(window_id.encode(), b"").decode(errors=ESCAPED) != budget_id:
                longest = budget.limit.longest_seconds + self._guard_seconds if budget else 0
                both = [key for one in (window_id, budget_id) for key in (keys.window(one), keys.health(one))]
                args: list[str | int] = [token, window_id, budget_id, round(1000 * max(KEEP_SECONDS, longest))]
                calls.append((self._join, [keys.lease, keys.budgets, *both], args))
        run_many(self._client, calls)

    @translated()
    def look(self, limited: Sequence[Limited]) -> tuple[int, dict[str, WindowState]]:
        """Look at several windows at one instant: the time there (microseconds of Redis time), a view by name."""
        keys, args = [self._keys.epoch], [KEEP_SECONDS * _MICROSECONDS]
        for one in limited:
            keys += [self._keys.window(one.window_id), self._keys.health(one.window_id)]
            args.append(len(one.limit.rules))
            for rule in one.limit.rules:
                args += [rule.amount, round((rule.seconds + self._guard_seconds) * _MICROSECONDS)]
        now, *views = self._look(self._client, keys, args)
        return int(now), {
            one.name: WindowState(free, wait / _MICROSECONDS, rest / _MICROSECONDS, bool(suspect), *_seconds(more))
            for one, (free, wait, rest, suspect, *more) in zip(limited, views, strict=True)
        }

    def ages(self, limited: Sequence[Limited], now_us: int) -> dict[str, tuple[float, ...]]:
        """Return by name how long ago each slot was taken that still counts for a rule, seconds, newest first."""
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=False)
            self.ask_ages(pipeline, limited)
            return self.read_ages(pipeline.execute(), limited, now_us)

    def ask_ages(self, pipeline: Pipeline, limited: Sequence[Limited]) -> None:
        """Add to a pipeline the commands whose replies `read_ages` reads."""
        for one in limited:
            amount = max(rule.amount for rule in one.limit.rules)
            pipeline.lrange(self._keys.window(one.window_id), 0, amount - 1)

    @translated()
    def read_ages(
        self, replies: Sequence[list[bytes]], limited: Sequence[Limited], now_us: int
    ) -> dict[str, tuple[float, ...]]:
        """Read what the commands of `ask_ages` replied."""
        ages = {}
        for one, slots in zip(limited, replies, strict=True):
            span = one.limit.longest_seconds + self._guard_seconds
            taken = ((now_us - int(slot)) / _MICROSECONDS for slot in slots)
            ages[one.name] = tuple(max(0.0, age) for age in taken if age < span)
        return ages

    def used(self, limited: Sequence[Limited]) -> dict[str, list[int]]:
        """Count by name the slots taken within the period of each rule, the guard left out, all at one instant."""
        counts = iter(self.count([(one, [rule.seconds for rule in one.limit.rules]) for one in limited]))
        return {one.name: [next(counts) for _ in one.limit.rules] for one in limited}

    def count(self, asked: Sequence[tuple[Limited, Sequence[float]]]) -> list[int]:
        """Count the slots taken in the last so many seconds, for each number of seconds asked of each, in that order.

        What that takes does not grow with the slots.
        """
        args: list[int] = []
        for _, periods in asked:
            args += [len(periods), *(round(seconds * _MICROSECONDS) for seconds in periods)]
        keys = [self._keys.window(one.window_id) for one, _ in asked]
        return cast("list[int]", self._count(self._client, keys, args))

    @translated()
    def stamps(self, limited: Limited, number: int) -> list[int]:
        """Return the stamps of the newest `number` slots, microseconds of Redis time, newest first."""
        with translated(self._client):
            found = cast(
                "list[bytes]", self._client.lrange(self._keys.window(limited.window_id), 0, max(0, number - 1))
            )
        return [int(stamp) for stamp in found]

    @translated()
    def sent(self, limited: Limited, number: int) -> list[int]:
        """Return when the calls of the newest `number` slots were sent, microseconds of Redis time, oldest first.

        That is when their slots were taken, also where a slot counts from later on.
        """
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.lrange(self._keys.window(limited.window_id), 0, max(0, number - 1))
            pipeline.lrange(self._keys.moved(limited.window_id), 0, max(0, number - 1))
            slots, moved = cast("tuple[list[bytes], list[bytes]]", pipeline.execute())
        found = Counter(map(int, slots))
        for stamp, sent in (map(int, one.split()) for one in moved):  # newest first: one may have been moved again
            if found[stamp]:
                found[stamp] -= 1
                found[sent] += 1
        return sorted(found.elements())


def _note(endpoint: str, window_id: str, *budget: str) -> str:
    """Spell what is noted of a call; the scripts put the slot's stamp into it."""
    return "|".join([window_id, "%s", endpoint, *budget])


def _seconds(microseconds: Sequence[int]) -> tuple[float, float]:
    held, paused = microseconds
    return held / _MICROSECONDS, paused / _MICROSECONDS


def _call_keys(keys: Keys, call: Call | None) -> list[str]:
    """Return where a call is noted; keys that nothing is done with, where there is none."""
    if call is None:
        return [keys.calls(""), keys.inflight("")]
    return [keys.calls(call.worker_id), keys.inflight(type_of(call.event_id))]
