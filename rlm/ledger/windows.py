"""The windows of endpoints and budgets: what they have counted, and what they admit. Slots are taken by `turn`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rlm.core.endpoint import Endpoint, Limited, all_limited
from rlm.core.window import WindowState
from rlm.ledger.connect import SERVER_ID, translating
from rlm.ledger.rules import WindowRules
from rlm.ledger.scripts import Command, Part, ScriptReply
from rlm.ledger.values import MICROSECONDS, reading, whole

if TYPE_CHECKING:
    from rlm.ledger.store import Store


class WindowLooks(ScriptReply, frozen=True):
    """What `look_windows` sees at one instant, microseconds of Redis time: the names and values of each window."""

    now_us: int
    windows: list[Any]


class WindowLook(ScriptReply, frozen=True):
    """One window of a `WindowLooks`, times in microseconds from then on."""

    free: int
    wait_us: int
    rest_us: int
    suspect: bool
    held_us: int
    paused_us: int

    def state(self) -> WindowState:
        """Return it in seconds."""
        spans = (us / MICROSECONDS for us in (self.wait_us, self.rest_us, self.held_us, self.paused_us))
        wait, rest, held, paused = spans
        return WindowState(self.free, wait, rest, self.suspect, held, paused)


class Taken(ScriptReply, frozen=True):
    """What `take_slots` answers: 0: the slots are taken; microseconds until there are so many; -1 for never."""

    wait_us: int


class Windows(Part):
    """The windows of all endpoints and budgets."""

    def __init__(self, store: Store, guard_seconds: float | None = None) -> None:
        """Use the guard of the settings, or `guard_seconds` if given."""
        super().__init__(store)
        self._guard_seconds = store.settings.run.guard_seconds if guard_seconds is None else guard_seconds

    def take(self, endpoint: Endpoint, cost: int = 1) -> float | None:
        """Take `cost` slots of `endpoint`, and of its budget, for calls that are not RLM's.

        Return 0 if they are taken, the seconds until it makes sense to ask again, or None for never.

        Raises:
            StoreError: Redis did not answer; do not assume that a slot was taken.
        """
        windows, name = self._rules(all_limited([endpoint])), f"shared:{uuid4().hex}"
        reply = self._run(
            "take_slots", prefix=self._keys.prefix, windows=windows, cost=cost, name=name, server=SERVER_ID
        )
        wait_us = Taken.read(reply).wait_us
        return None if wait_us < 0 else wait_us / MICROSECONDS

    def look(self, limited: Sequence[Limited]) -> tuple[int, dict[str, WindowState]]:
        """Look at several windows at one instant: the time of Redis in microseconds, and each window by name."""
        reply = self._run("look_windows", prefix=self._keys.prefix, windows=self._rules(limited))
        looks = WindowLooks.read(reply)
        states = map(WindowLook.read, looks.windows)
        return looks.now_us, {each.name: state.state() for each, state in zip(limited, states, strict=True)}

    def _rules(self, limited: Sequence[Limited]) -> list[WindowRules]:
        return [WindowRules.of(each, self._guard_seconds) for each in limited]

    def ages(self, limited: Sequence[Limited], now_us: int) -> dict[str, tuple[float, ...]]:
        """Return by name the ages of the slots that still count for a rule, seconds, newest first."""
        return self.read_ages(self._batch(self.age_commands(limited)), limited, now_us)

    def age_commands(self, limited: Sequence[Limited]) -> list[Command]:
        """Return the commands whose replies `read_ages` reads."""
        amounts = [max(rule.amount for rule in each.limit.rules) for each in limited]
        keys = [self._keys.window(each.window_id) for each in limited]
        return [("ZREVRANGE", key, 0, amount - 1, "WITHSCORES") for key, amount in zip(keys, amounts, strict=True)]

    @translating
    def read_ages(
        self, replies: Sequence[list[bytes]], limited: Sequence[Limited], now_us: int
    ) -> dict[str, tuple[float, ...]]:
        """Read the replies to the commands of `age_commands`."""
        ages = {}
        for each, slots in zip(limited, replies, strict=True):
            span = each.limit.longest_seconds + self._guard_seconds
            taken = ((now_us - reading(whole, stamp, each.name, 0)) / MICROSECONDS for stamp in slots[1::2])
            ages[each.name] = tuple(max(0.0, age) for age in taken if age < span)
        return ages

    def used(self, limited: Sequence[Limited]) -> dict[str, list[int]]:
        """Return by name the slots taken within each rule's period, without the guard, all at one instant."""
        counts = iter(self.count([(each, [rule.seconds for rule in each.limit.rules]) for each in limited]))
        return {each.name: [next(counts) for _ in each.limit.rules] for each in limited}

    @translating
    def count(self, asked: Sequence[tuple[Limited, Sequence[float]]]) -> list[int]:
        """Return the slots taken within each of these spans (seconds), for each window, in that order.

        The cost does not grow with the number of slots.
        """
        now_us = round(self._now() * MICROSECONDS)
        spans = ((limited, now_us - round(seconds * MICROSECONDS)) for limited, each in asked for seconds in each)
        return self._batch(
            [("ZCOUNT", self._keys.window(limited.window_id), f"({since}", "+inf") for limited, since in spans]
        )

    @translating
    def stamps(self, limited: Limited, number: int) -> list[int]:
        """Return the stamps of the newest `number` slots, microseconds of Redis time, newest first."""
        key = self._keys.window(limited.window_id)
        slots = self._ask("ZREVRANGE", key, 0, max(0, number - 1), "WITHSCORES")
        return [reading(whole, stamp, key, 0) for stamp in slots[1::2]]
