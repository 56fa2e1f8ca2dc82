"""One endpoint's window in a simulation: what it admits now, and when it opens again.

Time is counted in whole microseconds here and wherever the plan computes: sums are exact, so what falls together in
time is equal and is handled as one group, whatever the number of events in it.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm.endpoint import Endpoint, Rule
    from rlm.plan.values import Window

#: Ticks in a second.
SECOND: Final = 1_000_000


def ticks(seconds: float) -> int:
    """Return `seconds` in ticks."""
    return round(seconds * SECOND)


def duration(seconds: float) -> int:
    """Return a duration in ticks, at least one, so that time moves on in every step."""
    return max(1, ticks(seconds))


class Gate:
    """An endpoint's rules with the slots taken under each; a slot is free only where every rule has one.

    `opens` is when the next slot can be taken if none is taken until then.
    """

    __slots__ = ("counts", "name", "opens", "rest")

    def __init__(self, name: str, rest: int, counts: list[_Count]) -> None:
        self.name = name
        self.rest = rest
        self.counts = counts
        self.opens = self._next_opening()

    @classmethod
    def of(cls, endpoint: Endpoint, window: Window, guard_seconds: float) -> Gate:
        """Make the gate of `endpoint` as its window stands at the start."""
        guard = ticks(guard_seconds)
        counts = [_Count.of(rule, window.ages, guard) for rule in endpoint.limit.rules]
        return cls(endpoint.name, ticks(window.rest_seconds), counts)

    def copy(self) -> Gate:
        """Return a gate in the same state that can be used up without changing this one."""
        return Gate(self.name, self.rest, [count.copy() for count in self.counts])

    @property
    def shortest(self) -> int:
        """The shortest time in which a slot comes back, ticks."""
        return min(count.period for count in self.counts)

    def free(self, at: int) -> int:
        """Count the slots that can be taken at `at`, which must not go backwards from call to call."""
        return min([count.free_at(at) for count in self.counts]) if at >= self.opens else 0

    def take(self, at: int, slots: int) -> None:
        """Take that many of the slots that are free."""
        for count in self.counts:
            count.held.append((at + count.period, slots))
            count.free -= slots
        self.opens = self._next_opening()

    def _next_opening(self) -> int:
        return max(self.rest, *[count.opens_at() for count in self.counts])


class _Count:
    """One rule's slots: how many are free, and when those that are held come back, soonest first."""

    __slots__ = ("free", "held", "period")

    def __init__(self, period: int, free: int, held: deque[tuple[int, int]]) -> None:
        self.period = period
        self.free = free
        self.held = held

    @classmethod
    def of(cls, rule: Rule, ages: Sequence[float], guard: int) -> _Count:
        period = duration(rule.seconds) + guard
        back = sorted(period - ticks(age) for age in ages)
        held = deque((at, 1) for at in back if at > 0)
        # A limit that was lowered may be exceeded by what was called before: free is below zero until it is not.
        return cls(period, rule.amount - len(held), held)

    def copy(self) -> _Count:
        return _Count(self.period, self.free, self.held.copy())

    def free_at(self, at: int) -> int:
        held = self.held
        while held and held[0][0] <= at:
            self.free += held.popleft()[1]
        return self.free

    def opens_at(self) -> int:
        lacking = 1 - self.free
        coming, opens = iter(self.held), 0
        while lacking > 0:
            opens, slots = next(coming)
            lacking -= slots
        return opens


def share(wanted: int, free: Sequence[int]) -> list[int]:
    """Divide `wanted` slots over a type's endpoints as `rlm.endpoint.in_order_of_use` does, but not slot by slot.

    `free` holds the free slots, at least `wanted` in all, the primary's first. The primary gives what it has; the
    overflows give from the top down to one level, and what does not come out even goes one each by their order.
    """
    primary, *overflow = free
    if wanted <= primary:
        return [wanted, *[0 for _ in overflow]]
    if wanted == sum(free):
        return list(free)
    level = _level(wanted - primary, overflow)
    given = [primary, *[max(0, slots - level) for slots in overflow]]
    odd = wanted - sum(given)
    for index, slots in enumerate(overflow, start=1):
        if odd and slots >= level:
            given[index] += 1
            odd -= 1
    return given


def _level(wanted: int, free: Sequence[int]) -> int:
    """Find the lowest level that all can be brought down to by taking at most `wanted`, which is less than all.

    What is above a level is most for some number of the tallest, so it is little enough when it is for each number.
    """
    tallest = itertools.accumulate(sorted(free, reverse=True))
    return max(-((wanted - slots) // number) for number, slots in enumerate(tallest, start=1))
