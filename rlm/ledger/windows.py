"""The windows of endpoints and budgets: what they have counted, what they admit, and what is known of their health.

RLM's slots are taken by the script `turn`, which also rests endpoints and reopens them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from rlm.core.endpoint import Endpoint, Limited, WindowState, all_limited
from rlm.ledger.connect import SERVER_ID, text, translated
from rlm.ledger.rules import WindowRules
from rlm.ledger.scripts import Command, Part
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole

#: What is read of an endpoint or a budget beside its window.
_FIELDS = ("rest", "pause", "known", "probe", "failures", "since", "failed_with", "opened_us", "paused_by", "paused_at")


class Windows(Part):
    """The windows of all endpoints and budgets."""

    def take(self, endpoint: Endpoint, cost: int = 1) -> float | None:
        """Take `cost` slots of `endpoint`, and of its budget, for calls that are not RLM's.

        Return 0 if they are taken, the seconds until it makes sense to ask again, or None for never.

        Raises:
            StoreError: Redis did not answer; do not assume that a slot was taken.
        """
        windows = [WindowRules.of(each, self._store.settings.run.guard_seconds) for each in all_limited([endpoint])]
        name = f"shared:{uuid4().hex}"
        wait_us = int(self._run("take_slots", windows=windows, cost=cost, name=name, server=SERVER_ID))
        return None if wait_us < 0 else wait_us / MICROSECONDS

    @translated()
    def look(self, limited: Sequence[Limited]) -> tuple[int, dict[str, WindowState]]:
        """Look at several windows at one instant: the time of Redis in microseconds, and each window by name."""
        now_us, *replies = self._batch([("TIME",), *self.commands(limited)], transaction=True)
        return now_us, self.read(replies, limited, now_us)

    def commands(self, limited: Sequence[Limited]) -> list[Command]:
        """Return the commands whose replies `read` reads."""
        read: list[Command] = [("HGET", self._keys.lease, "doubted_us")]
        for each in limited:
            most = max(rule.amount for rule in each.limit.rules)
            read.append(("HMGET", self._keys.endpoint(each.window_id), *_FIELDS))
            read.append(("ZREVRANGE", self._keys.window(each.window_id), 0, most - 1, "WITHSCORES"))
        return read

    @translated()
    def read(self, replies: Sequence[Any], limited: Sequence[Limited], now_us: int) -> dict[str, WindowState]:
        """Read the replies to `commands`: each window by name."""
        doubted, *windows = replies
        doubted_us = reading(whole, doubted, self._keys.lease, 0)
        return {
            each.name: self._state(each, fields, slots, doubted_us, now_us)
            for each, fields, slots in zip(limited, windows[::2], windows[1::2], strict=True)
        }

    def _state(
        self, limited: Limited, fields: Sequence[bytes | None], slots: Sequence[bytes], doubted_us: int, now_us: int
    ) -> WindowState:
        """Return a window as the scripts see it (`left_at` in lua/endpoints.lua)."""
        key, rules = f"the health of {limited.name}", WindowRules.of(limited, self._store.settings.run.guard_seconds)
        rest, pause, known, probe, failures = (reading(whole, field, key, 0) for field in fields[:5])
        since, failed_with, opened_us, paused_by, paused_at = fields[5:]
        stamps = [whole(stamp) for stamp in slots[1::2]]  # newest first
        held_us = max([doubted_us + rules.longest, *(known + span for _, span in rules.rules)])
        full_us = [stamps[amount - 1] + span for amount, span in rules.rules if len(stamps) >= amount]
        opens_us = max([now_us, held_us, rest, pause, probe, *full_us])
        left = min(amount - sum(stamp > now_us - span for stamp in stamps) for amount, span in rules.rules)

        def seconds_until(moment_us: int) -> float:
            return max(0, moment_us - now_us) / MICROSECONDS

        return WindowState(
            free=0 if opens_us > now_us else 1 if since is not None else left,
            wait_seconds=seconds_until(opens_us),
            rest_seconds=seconds_until(max(held_us, rest, pause)),
            suspect=since is not None,
            held_seconds=seconds_until(held_us),
            paused_seconds=seconds_until(pause),
            ages=tuple(max(0, now_us - stamp) / MICROSECONDS for stamp in stamps if now_us - stamp < rules.keep),
            failures=failures,
            failed_with=text(failed_with or b""),
            opened_at=reading(moment_of_us, opened_us, key, None),
            paused_by=text(paused_by or b""),
            paused_at=reading(moment, paused_at, key, None),
        )
