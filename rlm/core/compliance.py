"""Compliance: the most calls in any period, judged by the limit in force at the last of them. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rlm.core.endpoint import Limit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Peak:
    """The most calls in any period of a rule; `at_us` is the last call of the fullest period, None without calls.

    `in_force`: the rule is part of the current limit. `limit` is the text it was read from.
    """

    rule: Rule
    limit: str
    most: int
    at_us: int | None
    in_force: bool

    @property
    def exceeded(self) -> bool:
        """Whether that was more than the rule allows."""
        return self.most > self.rule.amount


@dataclass(frozen=True, slots=True)
class _Reign:
    """A limit and the half-open time it was in force, microseconds of Redis time; None for an open end."""

    limit: Limit
    from_us: int | None
    until_us: int | None


def peaks(
    stamps: Sequence[int], in_force: Limit, history: Iterable[tuple[float, str]] = (), since_us: int = 0
) -> list[Peak]:
    """Return for each rule the fullest of the periods that end with a call at `since_us` or later.

    `stamps` are the slots in ascending order, microseconds of Redis time. A period is a half-open interval: two calls
    exactly a period apart are never in the same one. `history` has the earlier limits, each with its start in seconds,
    oldest first; the oldest also counts for the time before, and without any, `in_force` always was. The rules in force
    come first, those without calls included.
    """
    found = {rule: Peak(rule, in_force.text, 0, None, in_force=True) for rule in in_force.rules}
    for reign in _reigns(in_force, history):
        first = bisect_left(stamps, max(since_us, reign.from_us or 0))
        last = len(stamps) if reign.until_us is None else bisect_left(stamps, reign.until_us)
        if first >= last:
            continue
        for rule in reign.limit.rules:
            most, at_us = _fullest(stamps, first, last, round(rule.seconds * _MICROSECONDS))
            so_far = found.get(rule) or Peak(rule, reign.limit.text, 0, None, in_force=False)
            found[rule] = replace(so_far, most=most, at_us=at_us) if most >= so_far.most else so_far
    return list(found.values())


def _reigns(in_force: Limit, history: Iterable[tuple[float, str]]) -> Iterator[_Reign]:
    changes = [(round(at * _MICROSECONDS), Limit.parse(text)) for at, text in history]
    if not changes:
        yield _Reign(in_force, None, None)
        return
    ends: list[int | None] = [at for at, _ in changes[1:]]
    for index, ((at, limit), until) in enumerate(zip(changes, [*ends, None], strict=True)):
        yield _Reign(limit, at if index else None, until)


def _fullest(stamps: Sequence[int], first: int, last: int, span: int) -> tuple[int, int]:
    """Return the most stamps in any period that ends with one of `stamps[first:last]`, and the one it ends with.

    The fullest period can always be moved until it ends with a call, so only such periods are counted.
    """
    most, at_us = 0, stamps[first]
    begin = bisect_left(stamps, stamps[first] - span + 1)
    for index in range(first, last):
        end = stamps[index]
        while end - stamps[begin] >= span:
            begin += 1
        if index - begin + 1 >= most:
            most, at_us = index - begin + 1, end
    return most, at_us


def full_seconds(stamps: Sequence[int], limit: Limit, guard_seconds: float, since_us: int, until_us: int) -> float:
    """Return for how long in [`since_us`, `until_us`) a window with the ascending `stamps` had no free slot, seconds.

    Under several rules that is by the one that was full for longest.
    """
    longest = 0
    for rule in limit.rules:
        period_us = round((rule.seconds + guard_seconds) * _MICROSECONDS)
        full, at = 0, since_us
        for oldest, newest in zip(stamps, stamps[rule.amount - 1 :], strict=False):  # `amount` slots from the first on
            begins, ends = max(at, newest), min(until_us, oldest + period_us)
            if ends > begins:
                full, at = full + ends - begins, ends
        longest = max(longest, full)
    return longest / _MICROSECONDS


def most_in_any(stamps: Sequence[int], span: int) -> int:
    """Return the most of the ascending `stamps` that lie within any half-open interval of length `span`."""
    return _fullest(stamps, 0, len(stamps), span)[0] if stamps else 0
