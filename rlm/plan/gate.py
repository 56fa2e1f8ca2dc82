"""One window in a simulation, an endpoint's or a budget's: what it admits now, and when it opens again.

Time is counted in whole microseconds here and wherever the plan computes: sums are exact, so what falls together in
time is equal and is handled as one group, whatever the number of events in it.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from rlm.core.health import ENDLESS_SECONDS, Circuit, shut_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rlm.core.endpoint import Limited, Rule
    from rlm.plan.values import Window

#: Ticks in a second.
SECOND: Final = 1_000_000
#: Later than any moment that matters.
NEVER: Final = 1 << 62


def ticks(seconds: float) -> int:
    """Return `seconds` in ticks."""
    return round(seconds * SECOND)


def duration(seconds: float) -> int:
    """Return a duration in ticks, at least one, so that time moves on in every step."""
    return max(1, ticks(seconds))


class Gate:
    """The rules of an endpoint or a budget with the slots taken; a slot is free only where every rule has one.

    `opens` is when the next slot can be taken if none is taken until then. What is suspect never opens, nor what is
    paused without an end. `shut` tells why a gate with a `rest` has one.
    """

    __slots__ = ("counts", "name", "opens", "rest", "shut")

    def __init__(self, name: str, rest: int, shut: Circuit, counts: list[_Count]) -> None:
        self.name = name
        self.rest = rest
        self.shut = shut
        self.counts = counts
        self.opens = self._next_opening()

    @classmethod
    def of(cls, limited: Limited, window: Window, guard_seconds: float, grain: int = 1) -> Gate:
        """Make the gate of an endpoint or a budget as its window stands at the start.

        Slots come back at multiples of `grain` ticks, no sooner than they do.
        """
        guard = ticks(guard_seconds)
        counts = [_Count.of(rule, window.ages, guard, grain) for rule in limited.limit.rules]
        endless = window.suspect or window.rest_seconds > ENDLESS_SECONDS
        return cls(limited.name, NEVER if endless else ticks(window.rest_seconds), _why_shut(window), counts)

    def copy(self) -> Gate:
        """Return a gate in the same state that can be used up without changing this one."""
        gate = Gate.__new__(Gate)
        gate.name, gate.rest, gate.shut, gate.opens = self.name, self.rest, self.shut, self.opens
        gate.counts = [count.copy() for count in self.counts]
        return gate

    @property
    def shortest(self) -> int:
        """The shortest time in which a slot comes back, ticks."""
        return min(count.period for count in self.counts)

    def free(self, at: int) -> int:
        """Count the slots that can be taken at `at`, which must not go backwards from call to call."""
        if at < self.opens:
            return 0
        counts = self.counts
        return counts[0].free_at(at) if len(counts) == 1 else min([count.free_at(at) for count in counts])

    def take(self, at: int, slots: int) -> None:
        """Take that many of the slots that are free."""
        for count in self.counts:
            count.held.append((at + count.period, slots))
            count.free -= slots
        self.opens = self._next_opening()

    def openings(self, until: int) -> Iterator[tuple[int, int]]:
        """Yield when how many slots are taken if each is as it comes, up to and including `until`: none can be sooner.

        That is so for any number of rules: under each of them a call waits for one so many calls before it.
        """
        gate = self.copy()
        at = max(0, gate.opens)
        while at <= until:
            slots = gate.free(at)
            yield at, slots
            gate.take(at, slots)
            at = gate.opens

    def _next_opening(self) -> int:
        opens = self.rest
        for count in self.counts:
            if count.free <= 0:
                opens = max(opens, count.opens_at())
        return opens


def _why_shut(window: Window) -> Circuit:
    """Return its health just before calls go again, which is what they wait for in the end."""
    if window.rest_seconds > ENDLESS_SECONDS:  # nothing else has no end
        return Circuit.PAUSED
    last = 0.0 if window.suspect else 1 / SECOND
    return shut_by(window.later(max(0.0, window.rest_seconds - last))) or Circuit.OK


class _Count:
    """One rule's slots: how many are free, and when those that are held come back, soonest first."""

    __slots__ = ("free", "held", "period")

    def __init__(self, period: int, free: int, held: deque[tuple[int, int]]) -> None:
        self.period = period
        self.free = free
        self.held = held

    @classmethod
    def of(cls, rule: Rule, ages: Sequence[float], guard: int, grain: int) -> _Count:
        period = duration(rule.seconds) + guard
        back = Counter([-((ticks(age) - period) // grain) * grain for age in ages])
        held = deque(sorted((at, slots) for at, slots in back.items() if at > 0))
        # A limit that was lowered may be exceeded by what was called before: free is below zero until it is not.
        return cls(period, rule.amount - sum(slots for _, slots in held), held)

    def copy(self) -> _Count:
        return _Count(self.period, self.free, self.held.copy())

    def free_at(self, at: int) -> int:
        held = self.held
        while held and held[0][0] <= at:
            self.free += held.popleft()[1]
        return self.free

    def opens_at(self) -> int:
        lacking = 1 - self.free
        for opens, slots in self.held:
            lacking -= slots
            if lacking <= 0:
                return opens
        return 0
