"""The window of an endpoint or a budget: its health in one of six words, and what it has counted. Pure.

Health is decided only here, so lists, views, plans, explanations, checks and metrics use the same word. Compliance is
the most calls in any period, judged by the limit in force at the last of these calls.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from rlm.core.endpoint import Limit, Rule

#: A longer pause or wait has no end, seconds; those that end by themselves last at most a year.
ENDLESS_SECONDS: Final = 10 * 365 * 86_400
_MICROSECONDS = 1_000_000
#: This many failures in a row rest an endpoint.
FAILING: Final = 5


class WindowState(msgspec.Struct, frozen=True):
    """The window of an endpoint or a budget. An endpoint's window does not include its budget, which has its own.

    `free` slots are available now, the next in `wait_seconds`. `rest_seconds` is what is left of the longest rest of
    any kind, `held_seconds` of a rest because the window cannot be trusted, `paused_seconds` of an operator's pause.
    `suspect`: it rested because of its answers, and no probe has been answered well since. `ages` are the seconds since
    each call that may still count, in any order; only plans fill them in, to count slots.
    """

    free: int = 0
    wait_seconds: float = 0.0
    rest_seconds: float = 0.0
    suspect: bool = False
    held_seconds: float = 0.0
    paused_seconds: float = 0.0
    ages: tuple[float, ...] = ()

    def later(self, seconds: float) -> WindowState:
        """Return the window as it is `seconds` later if no call is made. `free` stays as it was read."""
        names = ("wait_seconds", "rest_seconds", "held_seconds", "paused_seconds")
        left = {name: max(0.0, getattr(self, name) - seconds) for name in names}
        return replace(self, **left, ages=tuple(age + seconds for age in self.ages))


class Circuit(StrEnum):
    """What happens to the next call. If several states apply, the first in this list counts."""

    HELD = "held"  # no call goes: its window cannot be trusted
    PAUSED = "paused"  # no call goes: an operator paused it
    RESTING = "resting"  # no call goes: it rests because of its answers
    PROBING = "probing"  # one call at a time goes, until one is answered well
    FULL = "full"  # no call goes: all slots of its limit are taken
    OK = "ok"  # calls go as the limit allows


#: The states in which only the limit decides.
WELL: Final = frozenset({Circuit.OK, Circuit.FULL})
#: The states between a failure and the next good answer.
RECOVERING: Final = frozenset({Circuit.RESTING, Circuit.PROBING})


def shut_by(window: WindowState) -> Circuit | None:
    """Return the state that stops or restricts calls beyond the limit, None if there is none."""
    if window.held_seconds > 0:
        return Circuit.HELD
    if window.paused_seconds > 0:
        return Circuit.PAUSED
    if window.rest_seconds > 0:
        return Circuit.RESTING
    return Circuit.PROBING if window.suspect else None


def circuit_of(window: WindowState, budget: WindowState | None = None) -> Circuit:
    """Return the health of an endpoint or a budget. An endpoint whose `budget` is full is full as well."""
    if shut := shut_by(window):
        return shut
    full = window.free <= 0 or (budget is not None and circuit_of(budget) is Circuit.FULL)
    return Circuit.FULL if full else Circuit.OK


class Peak(msgspec.Struct, frozen=True):
    """The most calls in any period of a rule. `at_us` is the last call of the fullest period, None without calls.

    `in_force`: the rule is part of the current limit. `limit` is the text of the limit with this rule.
    """

    rule: Rule
    limit: str
    most: int
    at_us: int | None
    in_force: bool

    @property
    def exceeded(self) -> bool:
        """Whether there were more calls than the rule allows."""
        return self.most > self.rule.amount


def peaks(
    stamps: Sequence[int], in_force: Limit, history: Iterable[tuple[float, str]] = (), since_us: int = 0
) -> list[Peak]:
    """Return, for each rule, those in force first, the fullest period that ends with a call at `since_us` or later.

    `stamps` are the slots in ascending order, microseconds of Redis time. A period is half-open: two calls exactly one
    period apart never share one. `history` lists the earlier limits, oldest first, each with its start in seconds; the
    oldest also applies before its start. Without history, `in_force` applies to all calls.
    """
    by_rule = {rule: Peak(rule, in_force.text, 0, None, in_force=True) for rule in in_force.rules}
    limits = [(round(at * _MICROSECONDS), Limit.parse(text)) for at, text in history] or [(0, in_force)]
    begins = [0, *(at for at, _ in limits[1:])]
    for begin, end, (_, limit) in zip(begins, [*begins[1:], math.inf], limits, strict=True):
        first, last = bisect_left(stamps, max(since_us, begin)), bisect_left(stamps, end)
        if first >= last:
            continue
        for rule in limit.rules:
            most, at_us = max(_by_end(stamps, round(rule.seconds * _MICROSECONDS), first, last))
            so_far = by_rule.get(rule) or Peak(rule, limit.text, 0, None, in_force=False)
            by_rule[rule] = replace(so_far, most=most, at_us=at_us) if most >= so_far.most else so_far
    return list(by_rule.values())


def _by_end(stamps: Sequence[int], span: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield, for each of `stamps[first:last]`, how many are in the period that ends with it, and the stamp itself.

    Any fullest period can be shifted to end with a call, so only such periods are counted.
    """
    begin = 0
    for index in range(first, last):
        begin = bisect_left(stamps, stamps[index] - span + 1, begin, index + 1)
        yield index - begin + 1, stamps[index]


def most_in_any(stamps: Sequence[int], span: int) -> int:
    """Return the most of the ascending `stamps` that lie within any half-open interval of length `span`."""
    return max(_by_end(stamps, span, 0, len(stamps)), default=(0, 0))[0]
