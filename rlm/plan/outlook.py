"""How the leftovers develop over the next windows, each planned with what the one before it left over and called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rlm.plan.course import Course, Start
    from rlm.plan.values import Window

#: Windows over which a trend is measured, or a whole cycle of the limits where that is longer. Twice as many without a
#: change of it, and nothing new is to be expected.
SPAN: Final = 60
#: Growth below this many events a window is none: what arrives is whole events.
NO_GROWTH: Final = 0.5


@dataclass(frozen=True, slots=True)
class Ahead:
    """One window to come: by type the events waiting at its start, and those of them left over at its end."""

    events: Mapping[str, int]
    left: Mapping[str, int]

    @property
    def leftover(self) -> int:
        """Events left over, all types together."""
        return sum(self.left.values())


@dataclass(frozen=True, slots=True)
class Outlook:
    """The windows to come, as many as asked for or until nothing new came, and what arrives between two of them.

    After `cycle` windows every limit has let through what it does in its period: before that no trend is sure.
    """

    windows: tuple[Ahead, ...]
    arrivals: Mapping[str, float]
    cycle: float = 0.0

    @property
    def drained_in(self) -> int | None:
        """The first window, counted from 1, that leaves nothing over, None where leftovers come to stay."""
        left = [one.leftover for one in self.windows]
        return left.index(0) + 1 if 0 in left[-self._tail :] else None

    @property
    def growth(self) -> float:
        """By how many events the leftover grows a window in the end; below zero where it shrinks."""
        if self.drained_in:
            return 0.0
        return sum(self.growth_of(name) for name in self.windows[0].left)

    def growth_of(self, name: str) -> float:
        """The same for one type."""
        last, tail = self.windows[-1], self._tail
        if len(self.windows) > 1:
            return (last.left[name] - self.windows[-1 - tail].left[name]) / tail
        completed = last.events[name] - last.left[name]
        return self.arrivals.get(name, 0.0) - completed if last.left[name] else 0.0

    @property
    def verdict(self) -> str:
        """Say in words what comes of it."""
        left = [one.leftover for one in self.windows]
        tail = left[-self._tail :]
        if self.drained_in:
            again = max(left[self.drained_in :], default=0)
            later = f"; now and then up to {again:,} are left over again, for one of the next windows" if again else ""
            return f"drained in window {self.drained_in:,}{later}" if any(left) else "nothing is left over"
        so_far = "never" if len(left) > self.cycle else f"not by window {len(left):,}"
        if self.growth >= NO_GROWTH:
            return f"{so_far}: growing by {_events(round(self.growth))} a window"
        if self.growth > -NO_GROWTH:
            return f"{so_far}: stays at about {round(sum(tail) / len(tail)):,}"
        then = len(left) + math.ceil(left[-1] / -self.growth)
        fewer = f"{round(-self.growth):,} fewer with each window"
        return f"not by window {len(left):,}: {left[-1]:,} are left over then, {fewer}; at this rate in window {then:,}"

    def as_json(self) -> dict[str, Any]:
        """Return what `rlm plan --windows N --json` adds to the plan."""
        return {
            "windows": [
                {
                    "window": number,
                    "events": sum(one.events.values()),
                    "completed": sum(one.events.values()) - one.leftover,
                    "leftover": one.leftover,
                    "by_type": {
                        name: {"events": one.events[name], "completed": one.events[name] - left, "leftover": left}
                        for name, left in one.left.items()
                    },
                }
                for number, one in enumerate(self.windows, start=1)
            ],
            "arrivals_per_window": dict(self.arrivals),
            "drained_in": self.drained_in,
            "growth_per_window": round(self.growth, 2),
            "verdict": self.verdict,
        }

    @property
    def _tail(self) -> int:
        """How many of the last windows tell the trend: the first begin with windows that are open."""
        half = len(self.windows) // 2
        return max(1, half if half < self.cycle else min(_span(self.cycle), _whole_cycles(half, self.cycle)))


def _span(cycle: float) -> int:
    """Return over how many windows a trend is measured."""
    return max(math.ceil(cycle), _whole_cycles(SPAN, cycle))


def _whole_cycles(most: int, cycle: float) -> int:
    """Return the windows of as many whole cycles as there are in so many windows."""
    return round(most // cycle * cycle) if cycle else most


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number:,} events"


def look_ahead(
    backlog: Mapping[str, int],
    arrivals: Mapping[str, float],
    windows: Mapping[str, Window],
    number: int,
    plan: Callable[[Mapping[str, int], Mapping[str, Window]], Course],
    carry: Callable[[Mapping[str, Window], Sequence[Start]], Mapping[str, Window]],
    cycle: float = 0.0,
) -> Outlook:
    """Plan up to `number` windows one after the other, fewer once nothing new is to be expected.

    Args:
        backlog: events by type that wait for the first.
        arrivals: events by type that come between the starts of two, a fraction as often as it comes to a whole one.
        windows: what the endpoints' windows hold at the start of the first.
        number: how many windows.
        plan: what becomes of a window that begins with this backlog and these windows of the endpoints.
        carry: what the windows of the endpoints hold a window later.
        cycle: the longest period of any limit, in windows.
    """
    ahead: list[Ahead] = []
    events = dict(backlog)
    for passed in range(1, number + 1):
        course = plan(events, windows)
        ahead.append(Ahead(events, dict(course.left)))
        if _settled(ahead, arrivals, number, _span(cycle)):
            break
        windows = carry(windows, course.starts)
        events = {name: left + _arrived(arrivals.get(name, 0.0), passed) for name, left in course.left.items()}
    return Outlook(tuple(ahead), arrivals, cycle)


def _arrived(rate: float, passed: int) -> int:
    """Return how many whole events come after the window number `passed`, so that the sum keeps to the rate."""
    return math.floor(rate * passed + NO_GROWTH) - math.floor(rate * (passed - 1) + NO_GROWTH)


def _settled(ahead: Sequence[Ahead], arrivals: Mapping[str, float], number: int, span: int) -> bool:
    """Tell whether nothing new is to be expected: all is done, or an old trend goes on beyond the last window asked."""
    quiet = 1 if not any(arrivals.values()) else span
    if len(ahead) >= quiet and not any(one.leftover for one in ahead[-quiet:]):
        return True
    if len(ahead) <= 2 * span:
        return False
    before, between, now = (ahead[-1 - back].leftover for back in (2 * span, span, 0))
    steady = abs((now - between) - (between - before)) <= NO_GROWTH * span
    return steady and (now >= between or now > (number - len(ahead)) * (between - now) / span)
