"""The windows of endpoints and budgets: what they have counted, what they admit, and what is known of their health.

RLM's slots are taken by the script `turn`, which also rests endpoints and reopens them.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import msgspec

from rlm.core.endpoint import Endpoint, Limited, WindowState, all_limited
from rlm.ledger.connect import SERVER_ID, text, translated
from rlm.ledger.rules import WindowRules
from rlm.ledger.scripts import Access, Command, Part, ScriptReply
from rlm.ledger.values import LATEST, MICROSECONDS, moment, moment_of_us, reading, us_of, whole


class WindowLook(msgspec.Struct, frozen=True):
    """One window of a look, times in microseconds from then on."""

    free: int
    wait_us: int
    rest_us: int
    suspect: bool
    held_us: int
    paused_us: int

    def state(self) -> WindowState:
        """Return it in seconds."""
        wait, rest, held, paused = (
            us / MICROSECONDS for us in (self.wait_us, self.rest_us, self.held_us, self.paused_us)
        )
        return WindowState(self.free, wait, rest, self.suspect, held, paused)


class WindowsReply(ScriptReply, frozen=True):
    """What `use_windows` answers, microseconds of Redis time."""

    now_us: int
    wait_us: int
    windows: list[WindowLook]


class Health(msgspec.Struct, frozen=True):
    """What is known of an endpoint or a budget beside its window: failures in a row, and its last pause and by whom.

    Times are seconds since 1970. `paused_until` is None for an endless pause and without a pause. `opened_at` is when
    it last began to rest because of failures. `failed_with` describes its last failure in a few
    words; empty if unknown.
    """

    failures: int
    paused_by: str
    paused_at: float | None
    paused_until: float | None
    opened_at: float | None
    failed_with: str


class Windows(Part):
    """The windows of all endpoints and budgets."""

    def __init__(self, store: Access, guard_seconds: float | None = None) -> None:
        """Use the guard of the settings, or `guard_seconds` if given."""
        super().__init__(store)
        self._guard_seconds = store.settings.run.guard_seconds if guard_seconds is None else guard_seconds

    def take(self, endpoint: Endpoint, cost: int = 1) -> float | None:
        """Take `cost` slots of `endpoint`, and of its budget, for calls that are not RLM's.

        Return 0 if they are taken, the seconds until it makes sense to ask again, or None for never.

        Raises:
            StoreError: Redis did not answer; do not assume that a slot was taken.
        """
        wait_us = self._use(all_limited([endpoint]), cost).wait_us
        return None if wait_us < 0 else wait_us / MICROSECONDS

    def look(self, limited: Sequence[Limited]) -> tuple[int, dict[str, WindowState]]:
        """Look at several windows at one instant: the time of Redis in microseconds, and each window by name."""
        looks = self._use(limited, 0)
        return looks.now_us, {each.name: look.state() for each, look in zip(limited, looks.windows, strict=True)}

    def _use(self, limited: Sequence[Limited], cost: int) -> WindowsReply:
        windows, name = [WindowRules.of(each, self._guard_seconds) for each in limited], f"shared:{uuid4().hex}"
        return WindowsReply.read(self._run("use_windows", windows=windows, cost=cost, name=name, server=SERVER_ID))

    def ages(self, limited: Sequence[Limited], now_us: int) -> dict[str, tuple[float, ...]]:
        """Return by name the ages of the slots that still count for a rule, seconds, newest first."""
        return self.read_ages(self._batch(self.age_commands(limited)), limited, now_us)

    def age_commands(self, limited: Sequence[Limited]) -> list[Command]:
        """Return the commands whose replies `read_ages` reads."""
        amounts = [max(rule.amount for rule in each.limit.rules) for each in limited]
        keys = [self._keys.window(each.window_id) for each in limited]
        return [("ZREVRANGE", key, 0, amount - 1, "WITHSCORES") for key, amount in zip(keys, amounts, strict=True)]

    @translated()
    def read_ages(
        self, replies: Sequence[list[bytes]], limited: Sequence[Limited], now_us: int
    ) -> dict[str, tuple[float, ...]]:
        """Read the replies to the commands of `age_commands`."""
        ages = {}
        for each, slots in zip(limited, replies, strict=True):
            span = each.limit.longest_seconds + self._guard_seconds
            taken = ((now_us - whole(stamp)) / MICROSECONDS for stamp in slots[1::2])
            ages[each.name] = tuple(max(0.0, age) for age in taken if age < span)
        return ages

    @translated()
    def health(self, limited: Sequence[Limited]) -> dict[str, Health]:
        """Return the health of each, by name."""
        names = ("failures", "paused_by", "paused_at", "pause", "opened_us", "failed_with")
        replies = self._batch([("HMGET", self._keys.endpoint(each.window_id), *names) for each in limited])
        return {each.name: _health(f"the health of {each.name}", *r) for each, r in zip(limited, replies, strict=True)}


def _health(key: str, *values: bytes | None) -> Health:
    failures, paused_by, paused_at, pause, opened_us, failed_with = values
    until_us, endless_us = reading(whole, pause, key, None), us_of(LATEST)  # as `set_pause` writes an endless one
    is_endless = until_us is None or until_us > endless_us // 2  # which may be moved with a clock that steps
    return Health(
        failures=reading(whole, failures, key, 0),
        paused_by=text(paused_by or b""),
        paused_at=reading(moment, paused_at, key, None),
        paused_until=None if is_endless else moment_of_us(until_us or 0),
        opened_at=reading(moment_of_us, opened_us, key, None),
        failed_with=text(failed_with or b""),
    )
