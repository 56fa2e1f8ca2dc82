"""The window of one rule of an endpoint or a budget in a simulation: what it admits now, and when it opens again.

The planner counts time in ticks, which are whole microseconds. Their sums are exact, so simultaneous events compare as
equal.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Final

from rlm.core.endpoint import ENDLESS_SECONDS, Limited, WindowState

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
    """A rule's slots: how many are `free`, and when the `taken` ones come back, in ascending order.

    `opens` is when the next slot can be taken if none is taken before. An endpoint has a slot only if all its rules and
    those of its budget have one.
    """

    __slots__ = ("free", "opens", "period", "rest", "taken")

    def __init__(self, rest: int, period: int, free: int, taken: deque[tuple[int, int]]) -> None:
        self.rest = rest
        self.period = period
        self.free = free  # negative for a while after a limit was lowered below the calls that were made
        self.taken = taken
        self.opens = self._next_opening()

    def copy(self) -> SimulatedWindow:
        """Return a copy that can be used up without changing this one."""
        return SimulatedWindow(self.rest, self.period, self.free, self.taken.copy())

    def most_within(self, span: int) -> int:
        """Return the most slots that can be taken within `span` ticks."""
        return (self.free + sum(slots for _, slots in self.taken)) * (1 + span // self.period)

    def free_at(self, at: int) -> int:
        """Return the slots that can be taken at `at`, which must not decrease between calls."""
        if at < self.opens:
            return 0
        taken = self.taken
        while taken and taken[0][0] <= at:
            self.free += taken.popleft()[1]
        return self.free

    def take(self, at: int, slots: int, grain: int = 1) -> None:
        """Take `slots` of the free ones. Those that come back within a `grain` of ticks form one group."""
        back, taken = at + self.period, self.taken
        self.free -= slots
        if taken and back - taken[-1][0] < grain:
            last, before = taken[-1]
            taken[-1] = last + (back - last) * slots // (before + slots), before + slots
        else:
            taken.append((back, slots))
        self.opens = self._next_opening()

    def _next_opening(self) -> int:
        lacking = 1 - self.free
        for back, slots in self.taken if lacking > 0 else ():
            lacking -= slots
            if lacking <= 0:
                return max(self.rest, back)
        return self.rest


def windows_of(limited: Limited, window: WindowState, added: int) -> list[SimulatedWindow]:
    """Return the windows of its rules at the start. Slots come back a period and `added` ticks after a call.

    A suspect window never opens, nor does one with an endless pause.
    """
    is_endless = window.suspect or window.rest_seconds > ENDLESS_SECONDS
    rest, windows = NEVER if is_endless else ticks(window.rest_seconds), []
    for rule in limited.limit.rules:
        period = duration(rule.seconds) + added
        back = Counter([period - ticks(age) for age in window.ages])
        taken = deque(sorted((at, slots) for at, slots in back.items() if at > 0))
        windows.append(SimulatedWindow(rest, period, rule.amount - sum(slots for _, slots in taken), taken))
    return windows


def openings(windows: Sequence[SimulatedWindow], until: int) -> Iterator[tuple[int, int]]:
    """Yield (time, slots) for the earliest possible use of every slot that all these rules have, `until` then.

    It is the earliest under several rules too: under each, a call waits only for the one a fixed number before it.
    """
    windows, at = [window.copy() for window in windows], 0
    while (at := max(at, *[window.opens for window in windows])) <= until:
        slots = min(window.free_at(at) for window in windows)
        yield at, slots
        for window in windows:
            window.take(at, slots)
