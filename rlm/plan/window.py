"""The window of an endpoint or a budget in a simulation: what it admits now, and when it opens again.

The planner counts time in ticks, which are whole microseconds. Their sums are exact, so simultaneous events compare as
equal.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Final

from rlm.core.endpoint import Limited, Rule
from rlm.core.window import ENDLESS_SECONDS, Circuit, WindowState, shut_by

#: Ticks in a second.
SECOND: Final = 1_000_000
#: Later than any moment that matters.
NEVER: Final = 1 << 62


def ticks(seconds: float) -> int:
    """Return `seconds` in ticks."""
    return round(seconds * SECOND)


def duration(seconds: float) -> int:
    """Return a duration in ticks, at least one so that every step advances time."""
    return max(1, ticks(seconds))


class SimulatedWindow:
    """The rules of an endpoint or a budget with their taken slots; a slot is free only if every rule has one.

    `opens` is when the next slot can be taken if none is taken before. A suspect window never opens, nor does one with
    an endless pause. `shut` is the reason of its `rest`.
    """

    __slots__ = ("counts", "name", "opens", "rest", "shut")

    def __init__(self, name: str, rest: int, shut: Circuit, counts: list[_Count]) -> None:
        self.name = name
        self.rest = rest
        self.shut = shut
        self.counts = counts
        self.opens = self._next_opening()

    @classmethod
    def of(cls, limited: Limited, window: WindowState, added: int) -> SimulatedWindow:
        """Return the window at the start. Slots come back a period and `added` ticks after a call."""
        endless = window.suspect or window.rest_seconds > ENDLESS_SECONDS
        counts = [_Count.of(rule, window.ages, added) for rule in limited.limit.rules]
        return cls(
            limited.name, NEVER if endless else ticks(window.rest_seconds), shut_by(window) or Circuit.OK, counts
        )

    def copy(self) -> SimulatedWindow:
        """Return a copy that can be used up without changing this one."""
        counts = [_Count(count.period, count.free, count.taken.copy()) for count in self.counts]
        return SimulatedWindow(self.name, self.rest, self.shut, counts)

    def most_within(self, span: int) -> int:
        """Return the most slots that can be taken within `span` ticks."""
        return min(count.amount * (1 + span // count.period) for count in self.counts)

    def free(self, at: int) -> int:
        """Return the slots that can be taken at `at`, which must not decrease between calls."""
        return min([count.free_at(at) for count in self.counts]) if at >= self.opens else 0

    def take(self, at: int, slots: int, grain: int = 1) -> None:
        """Take `slots` of the free slots. Those that come back within a `grain` of ticks form one group."""
        for count in self.counts:
            count.take(at, slots, grain)
        self.opens = self._next_opening()

    def openings(self, until: int) -> Iterator[tuple[int, int]]:
        """Yield (time, slots) for the earliest possible use of every slot, up to and including `until`.

        It is the earliest under several rules too: under each, a call waits only for the one a fixed number before it.
        """
        window = self.copy()
        at = max(0, window.opens)
        while at <= until:
            slots = window.free(at)
            yield at, slots
            window.take(at, slots)
            at = window.opens

    def _next_opening(self) -> int:
        opens = self.rest
        for count in self.counts:
            if count.free <= 0:
                opens = max(opens, count.opens_at())
        return opens


class _Count:
    """One rule's slots: how many are free, and when the taken ones come back, in ascending order."""

    __slots__ = ("free", "period", "taken")

    def __init__(self, period: int, free: int, taken: deque[tuple[int, int]]) -> None:
        self.period = period
        self.free = free
        self.taken = taken

    @classmethod
    def of(cls, rule: Rule, ages: Sequence[float], added: int) -> _Count:
        period = duration(rule.seconds) + added
        back = Counter([period - ticks(age) for age in ages])
        taken = deque(sorted((at, slots) for at, slots in back.items() if at > 0))
        # After a limit was lowered, earlier calls may exceed it; then `free` is negative for a while.
        return cls(period, rule.amount - sum(slots for _, slots in taken), taken)

    @property
    def amount(self) -> int:
        return self.free + sum(slots for _, slots in self.taken)

    def take(self, at: int, slots: int, grain: int) -> None:
        back, taken = at + self.period, self.taken
        self.free -= slots
        if taken and back - taken[-1][0] < grain:
            last, before = taken[-1]
            taken[-1] = last + (back - last) * slots // (before + slots), before + slots
        else:
            taken.append((back, slots))

    def free_at(self, at: int) -> int:
        taken = self.taken
        while taken and taken[0][0] <= at:
            self.free += taken.popleft()[1]
        return self.free

    def opens_at(self) -> int:
        lacking = 1 - self.free
        for opens, slots in self.taken:
            lacking -= slots
            if lacking <= 0:
                return opens
        return 0
