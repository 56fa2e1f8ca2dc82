"""How the leftovers develop over the next windows, each planned with what the one before it left over and called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rlm.plan.longrun import LongRun

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rlm.core.window import WindowState
    from rlm.plan.course import Course, Start

#: Windows over which a trend is measured, or a whole cycle of the limits where that is longer. Twice as many without a
#: change of it, and nothing new is to be expected.
SPAN: Final = 60
#: Growth below this many events a window is none: what arrives is whole events.
NO_GROWTH: Final = 0.5
#: Where nothing is known of the limits.
ANYTHING: Final = LongRun()


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

    What they show is sure of those windows only. Beyond them goes what has settled, and what the limits let through in
    the `long_run`: where more arrives, the leftovers grow for ever, whatever a few windows look like.
    """

    windows: tuple[Ahead, ...]
    arrivals: Mapping[str, float]
    long_run: LongRun = ANYTHING

    @property
    def drained_in(self) -> int | None:
        """The first window, counted from 1, that leaves nothing over, None where that does not last."""
        left = self._left
        comes_back = self.settled and self._trend < NO_GROWTH and 0 in left[-self._tail :]
        lasts = not self._too_much and (left[-1] == 0 or comes_back)
        return left.index(0) + 1 if lasts else None

    @property
    def settled(self) -> bool:
        """Tell whether the trend has kept for long enough to go on."""
        return _is_steady(self._left, _span(self.long_run.cycle))

    @property
    def growth(self) -> float:
        """By how many events the leftover grows a window in the end; below zero where it shrinks."""
        return 0.0 if self.drained_in else self._in_the_end(self._trend, self.long_run.surplus(self.arrivals))

    def growth_of(self, name: str) -> float:
        """The same for one type."""
        return self._in_the_end(self._trend_of(name), self.long_run.surplus_of(name, self.arrivals))

    @property
    def verdict(self) -> str:
        """Say in words what comes of it: "never" is said only of what is sure."""
        last, growth = self._left[-1], self.growth
        window = f"window {len(self.windows):,}"
        if self.drained_in:
            return self._drained(self.drained_in)
        if self._too_much and not last:
            least = f"at least {_events(growth)}"
            return f"nothing is left over in {window}, but in the long run it grows by {least} a window"
        if self._too_much or (self.settled and growth >= NO_GROWTH):
            return f"never: growing by {'' if self.settled else 'at least '}{_events(growth)} a window"
        if self.settled and growth > -NO_GROWTH:
            tail = self._left[-self._tail :]
            return f"never: stays at about {round(sum(tail) / len(tail)):,}"
        return f"not by {window}: {last:,} {'is' if last == 1 else 'are'} left over then, {self._so_far(growth)}"

    def _drained(self, number: int) -> str:
        """Say since when nothing is left over, and what comes again now and then."""
        left = self._left
        if not any(left):
            lasts = not any(self.arrivals.values()) or len(left) > self.long_run.cycle
            return "nothing is left over" + ("" if lasts else f" by window {len(left):,}")
        again = max(left[number:], default=0)
        later = f"; now and then up to {again:,} are left over again, for one of the next windows" if again else ""
        return f"drained in window {number:,}{later}"

    def _so_far(self, growth: float) -> str:
        """Say what the windows show where it does not tell what comes in the end."""
        so_far = "" if self.settled else " so far"
        if growth >= NO_GROWTH:
            return f"growing by {_events(growth)} a window{so_far}"
        if growth > -NO_GROWTH:
            return "about as many as before"
        then = self._drained_by()
        none_left = f"; none by about window {then:,}" if then else ""
        return f"{round(-growth):,} fewer with each window{so_far}{none_left}"

    def _drained_by(self) -> int | None:
        """Return the window by which each type would be done: whole cycles later, no faster than limits allow."""
        last, cycle = self.windows[-1], max(1.0, self.long_run.cycle)
        cycles = 0
        for name, left in last.left.items():
            pace = -max(self._trend_of(name), self.long_run.surplus_of(name, self.arrivals))
            if left and (pace < NO_GROWTH or not self._whole_cycle):
                return None
            cycles = max(cycles, math.ceil(left / pace / cycle) if left else 0)
        return len(self.windows) + math.ceil(cycles * cycle)

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
    def _left(self) -> list[int]:
        return [one.leftover for one in self.windows]

    @property
    def _too_much(self) -> bool:
        """Tell whether more arrives than the limits let through in the long run."""
        return self.long_run.surplus(self.arrivals) >= NO_GROWTH

    @property
    def _whole_cycle(self) -> bool:
        """Tell whether the last windows, over which trends are measured, hold a cycle of every limit."""
        return len(self.windows) // 2 >= self.long_run.cycle

    @property
    def _tail(self) -> int:
        """How many of the last windows tell the trend: the first begin with windows that are open."""
        half, cycle = len(self.windows) // 2, self.long_run.cycle
        return max(1, min(_span(cycle), _whole_cycles(half, cycle)) if self._whole_cycle else half)

    @property
    def _trend(self) -> float:
        """By how many events the leftover grew a window over the last ones."""
        return sum(self._trend_of(name) for name in self.windows[0].left)

    def _trend_of(self, name: str) -> float:
        last, tail = self.windows[-1], self._tail
        if len(self.windows) > 1:
            return (last.left[name] - self.windows[-1 - tail].left[name]) / tail
        completed = last.events[name] - last.left[name]
        return self.arrivals.get(name, 0.0) - completed if last.left[name] else 0.0

    def _in_the_end(self, trend: float, surplus: float) -> float:
        """Return what a trend comes to: a surplus is sure, and the trend of a few windows is not."""
        if surplus < NO_GROWTH:
            return trend
        return max(trend, surplus) if self.settled else surplus


def _span(cycle: float) -> int:
    """Return over how many windows a trend is measured."""
    return max(math.ceil(cycle), _whole_cycles(SPAN, cycle))


def _whole_cycles(most: int, cycle: float) -> int:
    """Return the windows of as many whole cycles as there are in so many windows."""
    return round(most // cycle * cycle) if cycle else most


def _events(number: float) -> str:
    whole = max(1, round(number))
    return "1 event" if whole == 1 else f"{whole:,} events"


def look_ahead(
    backlog: Mapping[str, int],
    arrivals: Mapping[str, float],
    windows: Mapping[str, WindowState],
    number: int,
    plan: Callable[[Mapping[str, int], Mapping[str, WindowState]], Course],
    carry: Callable[[Mapping[str, WindowState], Sequence[Start]], Mapping[str, WindowState]],
    long_run: LongRun = ANYTHING,
) -> Outlook:
    """Plan up to `number` windows one after the other, fewer once nothing new is to be expected.

    Args:
        backlog: events by type that wait for the first.
        arrivals: events by type that come between the starts of two, a fraction as often as it comes to a whole one.
        windows: what the endpoints' windows hold at the start of the first.
        number: how many windows.
        plan: what becomes of a window that begins with this backlog and these windows of the endpoints.
        carry: what the windows of the endpoints hold a window later.
        long_run: what the limits let through in the long run.
    """
    ahead: list[Ahead] = []
    events = dict(backlog)
    for passed in range(1, number + 1):
        course = plan(events, windows)
        ahead.append(Ahead(events, dict(course.left)))
        if _tells_no_more(ahead, arrivals, number, _span(long_run.cycle)):
            break
        windows = carry(windows, course.starts)
        events = {name: left + _arrived(arrivals.get(name, 0.0), passed) for name, left in course.left.items()}
    return Outlook(tuple(ahead), arrivals, long_run)


def _arrived(rate: float, passed: int) -> int:
    """Return how many whole events come after the window number `passed`, so that the sum keeps to the rate."""
    return math.floor(rate * passed + NO_GROWTH) - math.floor(rate * (passed - 1) + NO_GROWTH)


def _tells_no_more(ahead: Sequence[Ahead], arrivals: Mapping[str, float], number: int, span: int) -> bool:
    """Tell whether nothing new is to be expected: all is done, or an old trend goes on beyond the last window asked."""
    left = [one.leftover for one in ahead]
    quiet = span if any(arrivals.values()) else 1
    if len(left) >= quiet and not any(left[-quiet:]):
        return True
    if not _is_steady(left, span):
        return False
    between, now = left[-1 - span], left[-1]
    return now >= between or now > (number - len(left)) * (between - now) / span


def _is_steady(left: Sequence[int], span: int) -> bool:
    """Tell whether the leftovers have changed as much in the last `span` windows as in those before."""
    if len(left) <= 2 * span:
        return False
    before, between, now = (left[-1 - back] for back in (2 * span, span, 0))
    return abs((now - between) - (between - before)) <= NO_GROWTH * span
