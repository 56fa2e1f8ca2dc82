"""The windows of endpoints and budgets: taking, giving back, blocking and reading their slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

from rlm.core.endpoint import PROBE_SLACK_SECONDS, Endpoint, Limited, all_limited
from rlm.core.window import WindowState
from rlm.ledger.claims import KEEP_SECONDS, Admitted, Call, Refused, call_keys, write_note
from rlm.ledger.connect import MICROSECONDS, text, translating
from rlm.ledger.scripts import Command, Part

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront
    from rlm.ledger.limiter import EndpointLimiter

#: How many slots are remembered, the newest, that count from later than their calls were sent.
MOST_MOVED = 100_000
#: How many windows are read at one instant, during which nobody else is served.
_AT_ONCE = 100


class Windows(Part):
    """The windows of all endpoints and budgets. A call takes a slot in both, or in neither."""

    def __init__(self, store: StoreFront, guard_seconds: float | None = None) -> None:
        """Use the guard of the settings, or `guard_seconds` if given."""
        super().__init__(store)
        self._guard_seconds = store.settings.run.guard_seconds if guard_seconds is None else guard_seconds

    @cached_property
    def _limiter(self) -> EndpointLimiter:
        """Takes single slots. Only workers do that, so others do not wait for the import of `limits`."""
        from rlm.ledger.limiter import EndpointLimiter, WindowStorage  # noqa: PLC0415

        acquire_slot = self._script("acquire_slot")
        return EndpointLimiter(WindowStorage(self._client, self._keys, self._guard_seconds, acquire_slot))

    def acquire(self, endpoint: Endpoint, call: Call | None = None) -> Admitted | Refused:
        """Take a slot of `endpoint`, and of its budget, for `call`, if both have one.

        If another limit than that of `endpoint` is in force, the call is refused, to be asked again at once.
        """
        probe_seconds = endpoint.timeout_seconds + PROBE_SLACK_SECONDS
        return self._limiter.acquire(all_limited([endpoint]), call=call, probe_seconds=probe_seconds)

    def give_back(self, endpoint: Endpoint, slot: Admitted, call: Call | None = None) -> None:
        """Give back a slot for which no call was sent."""
        self._move(endpoint, slot, call, ["", 0, ""])

    def block(
        self,
        endpoint: Endpoint,
        slot: Admitted,
        call: Call | None = None,
        *,
        ago_seconds: float = 0.0,
        left_late: bool = False,
    ) -> Admitted:
        """Block a slot for a period from now, for a call without an answer; return the moved slot.

        If a call may have been read later than its guard allows, block from `ago_seconds` before now, or from when the
        slot was taken if that is later. `left_late`: the call was sent only now.
        """
        limited = list(all_limited([endpoint]))
        window_ids = [one.window_id for one in limited]
        noted = write_note(call.lane, endpoint.name, window_ids) if call else "%s"  # not empty: it is moved
        shortest_seconds = min(rule.seconds for one in limited for rule in one.limit.rules)
        shortest_us = "" if left_late else round(shortest_seconds * MICROSECONDS)
        ago_us = round(max(0.0, ago_seconds) * MICROSECONDS)
        stamp = self._move(endpoint, slot, call, [noted, ago_us, shortest_us])
        return Admitted(stamp, suspect=slot.suspect)

    def _move(self, endpoint: Endpoint, slot: Admitted, call: Call | None, told: Sequence[str | int]) -> str:
        """Move a slot as `told`, which are the arguments of `return_slot` from `call` to `shortest`."""
        limited = list(all_limited([endpoint]))
        kept_ms = [round(1000 * max(KEEP_SECONDS, one.limit.longest_seconds + self._guard_seconds)) for one in limited]
        lists = [spell(one.window_id) for one in limited for spell in (self._keys.window, self._keys.moved)]
        health = self._keys.health(endpoint.window_id)
        keys = [lists[0], *call_keys(self._keys, call), lists[1], health, *lists[2:]]
        args = [slot.stamp, call.event_id if call else "", *told, MOST_MOVED, *kept_ms]
        return text(self._run("return_slot", keys, args))

    def join_budgets(self, token: int, endpoints: Iterable[Endpoint]) -> None:
        """Count the earlier calls of endpoints on their budgets, each once, when an endpoint names a new budget.

        A budget with a rule longer than calls are kept rests until enough time has passed.
        """
        keys, calls = self._keys, []
        counted = self._hgetall(keys.budgets)
        for endpoint in endpoints:
            window_id, budget = endpoint.window_id, endpoint.budget
            budget_id = budget.window_id if budget else ""
            if text(counted.get(window_id.encode(), b"")) != budget_id:
                longest = budget.limit.longest_seconds + self._guard_seconds if budget else 0
                both = [key for one in (window_id, budget_id) for key in (keys.window(one), keys.health(one))]
                args: list[str | int] = [token, window_id, budget_id, round(1000 * max(KEEP_SECONDS, longest))]
                calls.append(([keys.lease, keys.budgets, *both], args))
        self._run_each("join_budget", calls)

    def look(self, limited: Sequence[Limited]) -> tuple[int, dict[str, WindowState]]:
        """Look at several windows at one instant: the time of Redis in microseconds, and each window by name."""
        keys, args = [self._keys.epoch], [KEEP_SECONDS * MICROSECONDS]
        for one in limited:
            keys += [self._keys.window(one.window_id), self._keys.health(one.window_id)]
            args.append(len(one.limit.rules))
            for rule in one.limit.rules:
                args += [rule.amount, round((rule.seconds + self._guard_seconds) * MICROSECONDS)]
        now, *views = self._run("look_windows", keys, args)
        return int(now), {
            one.name: WindowState(free, wait / MICROSECONDS, rest / MICROSECONDS, bool(suspect), *_seconds(more))
            for one, (free, wait, rest, suspect, *more) in zip(limited, views, strict=True)
        }

    def ages(self, limited: Sequence[Limited], now_us: int) -> dict[str, tuple[float, ...]]:
        """Return by name the ages of the slots that still count for a rule, seconds, newest first."""
        return self.read_ages(self._batch(self.age_commands(limited)), limited, now_us)

    def age_commands(self, limited: Sequence[Limited]) -> list[Command]:
        """Return the commands whose replies `read_ages` reads."""
        amounts = [max(rule.amount for rule in one.limit.rules) for one in limited]
        keys = [self._keys.window(one.window_id) for one in limited]
        return [("LRANGE", key, 0, amount - 1) for key, amount in zip(keys, amounts, strict=True)]

    @translating
    def read_ages(
        self, replies: Sequence[list[bytes]], limited: Sequence[Limited], now_us: int
    ) -> dict[str, tuple[float, ...]]:
        """Read the replies to the commands of `age_commands`."""
        ages = {}
        for one, slots in zip(limited, replies, strict=True):
            span = one.limit.longest_seconds + self._guard_seconds
            taken = ((now_us - int(slot)) / MICROSECONDS for slot in slots)
            ages[one.name] = tuple(max(0.0, age) for age in taken if age < span)
        return ages

    def used(self, limited: Sequence[Limited]) -> dict[str, list[int]]:
        """Return by name the slots taken within each rule's period, without the guard, all at one instant."""
        counts = iter(self.count([(one, [rule.seconds for rule in one.limit.rules]) for one in limited]))
        return {one.name: [next(counts) for _ in one.limit.rules] for one in limited}

    def count(self, asked: Sequence[tuple[Limited, Sequence[float]]]) -> list[int]:
        """Return the slots taken within each of these spans (seconds), for each window, in that order.

        The cost does not grow with the number of slots.
        """
        args: list[int] = []
        for _, spans in asked:
            args += [len(spans), *(round(seconds * MICROSECONDS) for seconds in spans)]
        keys = [self._keys.window(one.window_id) for one, _ in asked]
        return cast("list[int]", self._run("count_slots", keys, args))

    @translating
    def stamps(self, limited: Limited, number: int) -> list[int]:
        """Return the stamps of the newest `number` slots, microseconds of Redis time, newest first."""
        return list(map(int, self._ask("LRANGE", self._keys.window(limited.window_id), 0, max(0, number - 1))))

    def sent(self, limited: Limited, number: int) -> list[int]:
        """Return when the calls of the newest `number` slots were sent, like `sent_each`."""
        return self.sent_each([(limited, number)])[0]

    @translating
    def sent_each(self, wanted: Sequence[tuple[Limited, int]]) -> list[list[int]]:
        """Return for each window when the calls of its newest slots were sent (Redis time, microseconds), oldest first.

        That is when their slots were taken, even if a slot counts from later. Many are read in one round trip.
        """
        found: list[list[int]] = []
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            lists = (
                (key(one.window_id), number) for one, number in part for key in (self._keys.window, self._keys.moved)
            )
            replies = self._batch((("LRANGE", key, 0, max(0, number - 1)) for key, number in lists), transaction=True)
            found += map(_when_sent, replies[::2], replies[1::2])
        return found


def _when_sent(slots: Iterable[bytes], moved: Iterable[bytes]) -> list[int]:
    """Return when calls were sent, from the `slots` and from those that were `moved` to a later moment."""
    found = Counter(map(int, slots))
    for stamp, sent in (map(int, one.split()) for one in moved):  # newest first, because slots may move repeatedly
        if found[stamp]:
            found[stamp] -= 1
            found[sent] += 1
    return sorted(found.elements())


def _seconds(microseconds: Sequence[int]) -> tuple[float, float]:
    held, paused = microseconds
    return held / MICROSECONDS, paused / MICROSECONDS
