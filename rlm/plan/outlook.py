"""How the leftovers develop: in the next windows, in the long run under the limits, and the verdict."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit, all_limited
from rlm.core.text import counted

#: A trend is measured over this many windows, or over a whole cycle of the limits if that is longer. If the trend is
#: unchanged over twice as many, nothing new is expected.
SPAN: Final = 60
#: Less growth than this many events per window counts as none, because events arrive whole.
NO_GROWTH: Final = 0.5


class LongRun(msgspec.Struct, frozen=True):
    """The most calls per window in the long run: `by_type` if each has its endpoints to itself, `together` for all.

    No more can be sustained, whatever plans of single windows show. After `cycle` windows every limit has completed its
    period; before that no trend is certain.
    """

    by_type: Mapping[str, float] = msgspec.field(default_factory=dict)
    together: float = math.inf
    cycle: float = 0.0

    @classmethod
    def of(cls, types: Sequence[EventType], shut: Container[str], seconds: float, guard_seconds: float) -> LongRun:
        """Return the long run for windows of `seconds`; endpoints and budgets named in `shut` admit nothing."""
        endpoints = {
            kind.name: [one for one in kind.endpoints if not any(each.name in shut for each in all_limited([one]))]
            for kind in types
        }
        longest = max(one.limit.longest_seconds for kind in types for one in all_limited(kind.endpoints))
        return cls(
            {name: seconds * _a_second(ones, guard_seconds) for name, ones in endpoints.items()},
            seconds * _a_second([one for ones in endpoints.values() for one in ones], guard_seconds),
            (longest + guard_seconds) / seconds,
        )

    def surplus_of(self, name: str, arrivals: Mapping[str, float]) -> float:
        """Return by how many events per window a type's arrivals exceed its rate; negative if there is room."""
        return arrivals.get(name, 0.0) - self.by_type.get(name, math.inf)

    def surplus(self, arrivals: Mapping[str, float]) -> float:
        """Return by how many events per window, at least, the arrivals of all types exceed what the limits admit."""
        of_each = sum(max(0.0, self.surplus_of(name, arrivals)) for name in arrivals)
        return max(of_each, sum(arrivals.values()) - self.together)


class Ahead(msgspec.Struct, frozen=True):
    """A future window: the events waiting at its start and those left over at its end, by type."""

    events: Mapping[str, int]
    left: Mapping[str, int]

    @property
    def leftover(self) -> int:
        """The events of all types that are left over."""
        return sum(self.left.values())


class Outlook(msgspec.Struct, frozen=True):
    """The windows ahead, as many as requested or until nothing new is expected, and the `arrivals` between two of them.

    The windows show only themselves. Beyond them, a settled trend counts, and what the limits admit in the `long_run`.
    If more events arrive than that, the leftovers grow for ever, even if a few windows look different.
    """

    windows: tuple[Ahead, ...]
    arrivals: Mapping[str, float]
    long_run: LongRun = LongRun()

    @property
    def drained_in(self) -> int | None:
        """The first window, counted from 1, that leaves nothing over; None if that does not last."""
        left = self._left
        comes_back = self.settled and self._trend < NO_GROWTH and 0 in left[-self._tail :]
        lasts = not self._too_much and (left[-1] == 0 or comes_back)
        return left.index(0) + 1 if lasts else None

    @property
    def settled(self) -> bool:
        """Whether the trend has lasted long enough to be expected to continue."""
        return is_steady(self._left, span_of(self.long_run.cycle))

    @property
    def growth(self) -> float:
        """By how many events per window the leftover grows in the long run; negative if it shrinks."""
        return 0.0 if self.drained_in else self._in_the_end(self._trend, self.long_run.surplus(self.arrivals))

    def growth_of(self, name: str) -> float:
        """Return the growth for one type."""
        return self._in_the_end(self._trend_of(name), self.long_run.surplus_of(name, self.arrivals))

    @property
    def verdict(self) -> str:
        """The result in words. "never" is used only if that is certain."""
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
        """Return words for the window that leaves nothing over, and for later leftovers that do not last."""
        left = self._left
        if not any(left):
            lasts = not any(self.arrivals.values()) or len(left) > self.long_run.cycle
            return "nothing is left over" + ("" if lasts else f" by window {len(left):,}")
        again = max(left[number:], default=0)
        later = f"; now and then up to {again:,} are left over again, for one of the next windows" if again else ""
        return f"drained in window {number:,}{later}"

    def _so_far(self, growth: float) -> str:
        """Return words for what the windows show if they do not decide the long run."""
        so_far = "" if self.settled else " so far"
        if growth >= NO_GROWTH:
            return f"growing by {_events(growth)} a window{so_far}"
        if growth > -NO_GROWTH:
            return "about as many as before"
        then = self._drained_by()
        none_left = f"; none by about window {then:,}" if then else ""
        return f"{round(-growth):,} fewer with each window{so_far}{none_left}"

    def _drained_by(self) -> int | None:
        """Return the window by which every type would be done, in whole cycles and no faster than the limits allow."""
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
                    **_counts(sum(one.events.values()), one.leftover),
                    "by_type": {name: _counts(one.events[name], left) for name, left in one.left.items()},
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
        """Whether more arrives than the limits admit in the long run."""
        return self.long_run.surplus(self.arrivals) >= NO_GROWTH

    @property
    def _whole_cycle(self) -> bool:
        """Whether the last windows, over which trends are measured, contain a cycle of every limit."""
        return len(self.windows) // 2 >= self.long_run.cycle

    @property
    def _tail(self) -> int:
        """How many of the last windows show the trend; the first ones do not, because slots are still free."""
        half, cycle = len(self.windows) // 2, self.long_run.cycle
        return max(1, min(span_of(cycle), _whole_cycles(half, cycle)) if self._whole_cycle else half)

    @property
    def _trend(self) -> float:
        """By how many events per window the leftover grew over the last windows."""
        return sum(self._trend_of(name) for name in self.windows[0].left)

    def _trend_of(self, name: str) -> float:
        last, tail = self.windows[-1], self._tail
        if len(self.windows) > 1:
            return (last.left[name] - self.windows[-1 - tail].left[name]) / tail
        completed = last.events[name] - last.left[name]
        return self.arrivals.get(name, 0.0) - completed if last.left[name] else 0.0

    def _in_the_end(self, trend: float, surplus: float) -> float:
        """Return the growth in the long run: a surplus is certain, the trend of a few windows is not."""
        if surplus < NO_GROWTH:
            return trend
        return max(trend, surplus) if self.settled else surplus


def _counts(events: int, leftover: int) -> dict[str, int]:
    return {"events": events, "completed": events - leftover, "leftover": leftover}


def span_of(cycle: float) -> int:
    """Return the number of windows over which a trend is measured."""
    return max(math.ceil(cycle), _whole_cycles(SPAN, cycle))


def _whole_cycles(most: int, cycle: float) -> int:
    """Return how many windows the whole cycles have that fit into `most` windows."""
    return round(most // cycle * cycle) if cycle else most


def _events(number: float) -> str:
    return counted(max(1, round(number)), "event")


def is_steady(left: Sequence[int], span: int) -> bool:
    """Return whether the leftovers changed as much in the last `span` windows as in those before."""
    if len(left) <= 2 * span:
        return False
    before, between, now = (left[-1 - back] for back in (2 * span, span, 0))
    return abs((now - between) - (between - before)) <= NO_GROWTH * span


def _a_second(endpoints: Iterable[Endpoint], guard_seconds: float) -> float:
    """Return the most calls per second of all endpoints; those that share a budget make at most what it allows."""
    found: dict[Budget | None, float] = defaultdict(float)
    for one in {endpoint.name: endpoint for endpoint in endpoints}.values():
        found[one.budget] += _rate(one.limit, guard_seconds)
    return sum(min(rate, _rate(budget.limit, guard_seconds)) if budget else rate for budget, rate in found.items())


def _rate(limit: Limit, guard_seconds: float) -> float:
    return min(rule.amount / (rule.seconds + guard_seconds) for rule in limit.rules)
