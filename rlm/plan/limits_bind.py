"""The result that limits bind a plan: until when, for how many events, the effect of more endpoints; and its sentence.

Moments are ticks since the run's start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from rlm.core.text import listed, named
from rlm.core.window import Circuit
from rlm.plan.window import SECOND

#: How many shut endpoints and budgets with the same reason are named.
MOST_NAMED: Final = 3

_SHUT: Final[Mapping[str, tuple[str, str]]] = {
    Circuit.PROBING: ("is not counted on until it answers well", "are not counted on until they answer well"),
    "endless": ("is paused until resumed", "are paused until resumed"),
    Circuit.PAUSED: ("is paused until {}", "are paused until {} at the latest"),
    Circuit.HELD: ("is held until {}", "are held until {} at the latest"),
    Circuit.RESTING: ("rests until {}", "rest until {} at the latest"),
}
_ORDINALS: Final = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


class MoreEndpoints(msgspec.Struct, frozen=True):
    """The effect of `number` additional overflow endpoints (per type if `each`): the new `end`, or how many they leave.

    `ordinal` is the position of the next endpoint among a type's endpoints, None if the types differ.
    """

    number: int
    ordinal: int | None
    each: bool
    end: int = 0
    leave: int = 0

    def __str__(self) -> str:
        each = " for each" if self.each else ""
        if self.number > 1:
            return f"{self.number} more overflow endpoints{each}"
        if self.ordinal is None or self.ordinal >= len(_ORDINALS):
            return f"one more overflow endpoint{each}"
        return f"a {_ORDINALS[self.ordinal]} overflow endpoint{each}"


class ShutWindow(msgspec.Struct, frozen=True):
    """An endpoint or a budget that admits no call before `until`; None if no end is known."""

    name: str
    reason: Circuit
    until: int | None


class LimitsBind(msgspec.Struct, frozen=True):
    """Limits or `budgets` bind until `until`; then events are left over or, if none are, the end is `end`.

    `by_limit` and `by_budget` have the types that they bind, each with its leftover; `by_shut` those of which no
    endpoint can be called before the deadline, because of the `unreachable` ones; `by_lanes` those of which more lanes
    would answer as many more. `shut` are endpoints and budgets of the types that limits bind. `blamed` are the
    unreachable ones, and the endlessly shut ones of other types if those leave most over. `failing` has a clause about
    calls that fail, with their number, `by_hand` clauses about limits. `untold` are left over for reasons without a
    clause. With more workers, `least` are left over in all, or the end is `soonest`.
    """

    by_limit: Mapping[str, int]
    by_budget: Mapping[str, int]
    budgets: tuple[str, ...]
    until: int
    by_shut: Mapping[str, int] = {}
    by_lanes: Mapping[str, int] = {}
    failing: Mapping[str, int] = {}
    untold: int = 0
    least: int | None = None
    end: int = 0
    soonest: int = 0
    more_endpoints: MoreEndpoints | None = None
    unreachable: tuple[ShutWindow, ...] = ()
    shut: tuple[ShutWindow, ...] = ()
    blamed: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self._left_over() if self.leftover else self._delayed()

    @property
    def leftover(self) -> int:
        """The events left over for these reasons."""
        return self._of_limits + sum(self.by_shut.values()) + sum(self.by_lanes.values())

    @property
    def _of_limits(self) -> int:
        return sum(self.by_limit.values()) + sum(self.by_budget.values())

    def _left_over(self) -> str:
        by_limits, by_shut, until = self._of_limits, sum(self.by_shut.values()), f"the deadline at {clock(self.until)}"
        told = dict(self.failing)
        if by_lanes := sum(self.by_lanes.values()):
            told[f"workers bind: {left_over(by_lanes, first_of(self.by_lanes))}"] = by_lanes
        if by_limits:
            told[f"{self._who()} until {until}: {left_over(by_limits)}"] = by_limits
        probed = [one.name for one in self.unreachable if one.reason is Circuit.PROBING]
        others = [*self.unreachable, *(one for one in self.shut if one not in self.unreachable)]
        if by_shut and probed:
            # Calls go there one at a time, and a good answer would open it; the plan assumes that none comes.
            others = [one for one in others if one.name not in probed]
            names = listed(probed) if len(probed) <= MOST_NAMED else named(probed, 1)
            assumed = f"no call to {names} is counted on until a probe is answered well: unless one is"
            told[f"{assumed}, {left_over(by_shut)}"] = by_shut
        elif by_shut:
            told[f"no endpoint of {first_of(self.by_shut)} can be called until {until}: {left_over(by_shut)}"] = by_shut
        change = "however many workers"
        if self.least is not None:
            change = f"with more workers than allowed {self.least:,}{' in all' if len(told) > 1 or self.untold else ''}"
        advice, more = "", self.more_endpoints
        if more and (by_limits or not probed):
            left = f"{more.leave:,}{' in all' if self.untold else ''}" if more.leave else "none over"
            advice = f"; {more} would leave {left}"
        return f"{'; '.join(sorted(told, key=told.__getitem__, reverse=True))}, {change}{advice}{self._besides(others)}"

    def _delayed(self) -> str:
        change, besides, advice = "more workers change nothing", "", ""
        end, soonest = clock(self.end), clock(self.soonest)
        if soonest != end:
            change, besides = f"with more workers the end could be {soonest} instead of {end}", "they and "
        if more := self.more_endpoints:
            advice = f"; {besides}{more} would finish at {clock(more.end)}"
        binds = _budgets_bind(self.budgets) if self.by_budget else _limits_bind(self.by_limit)
        return f"{binds} until {clock(self.until)}; {change}{advice}{self._besides(self.shut)}"

    def _besides(self, windows: Sequence[ShutWindow]) -> str:
        """Return in brackets which endpoints and budgets are shut, and which limits were set by hand."""
        more = len(self.by_hand) - MOST_NAMED
        told = [*_shut(windows), *self.by_hand[:MOST_NAMED], *([f"{more} more set by hand"] if more > 0 else [])]
        return f" ({', '.join(told)})" if told else ""

    def _who(self) -> str:
        by_limit, by_budget = self.by_limit, self.by_budget
        if not by_budget:
            return _limits_bind(by_limit)
        budgets = _budgets_bind(self.budgets)
        if not by_limit:
            return budgets
        of_budgets = f"{sum(by_budget.values()):,} of {first_of(by_budget)}"
        return f"{budgets} ({of_budgets}) and {_limits_bind(by_limit)} ({sum(by_limit.values()):,})"


def left_over(number: int, types: str = "") -> str:
    """Return in words how many events, of which types, a plan leaves over, whether or not anybody executes the plan."""
    return f"{number:,}{types and f' of {types}'} {'is' if number == 1 else 'are'} left over"


def _limits_bind(types: Iterable[str]) -> str:
    names = list(types)
    return f"the limit of {first_of(names)} binds" if len(names) == 1 else f"the limits of {first_of(names)} bind"


def _budgets_bind(budgets: Sequence[str]) -> str:
    first, *others = budgets
    if not others:
        return f"the budget {first} binds"
    return f"the budgets {first} and {others[0] if len(others) == 1 else f'{len(others)} more'} bind"


def _shut(windows: Sequence[ShutWindow]) -> list[str]:
    """Return the names of shut endpoints and budgets with the reasons, because they tighten the limits."""
    alike: dict[str, list[ShutWindow]] = {}
    for one in windows:
        endless = one.until is None and one.reason is not Circuit.PROBING
        alike.setdefault("endless" if endless else one.reason, []).append(one)
    parts: list[str] = []
    for reason, group in alike.items():
        of_one, of_many = _SHUT[reason]
        if len(group) <= MOST_NAMED:
            parts += [f"{one.name} {of_one.format(clock(one.until or 0))}" for one in group]
        else:
            last = clock(max(one.until or 0 for one in group))
            parts.append(f"{group[0].name} and {len(group) - 1:,} more {of_many.format(last)}")
    return parts


def first_of(types: Iterable[str]) -> str:
    """Return up to two types by name, or the first of more with the number of the others."""
    first, *others = types
    if len(others) > 1:
        return f"{first} and {len(others)} more types"
    return " and ".join([first, *others])


def clock(moment: int) -> str:
    """Return a moment of the run in minutes and seconds since its start: `1:40`."""
    minutes, seconds = divmod(round(moment / SECOND), 60)
    return f"{minutes}:{seconds:02}"
