"""Whether limits were kept: the most calls in any period, each judged by the limit in force at its last call. Pure."""

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
    """The most calls in any period of a rule; `at_us` is the last call of the fullest, None where there was no call.

    `in_force` tells whether the rule still is one, `limit` is the text it was read from.
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
    """A limit and the time it was in force, microseconds of Redis time; half-open, None for open to that side."""

    limit: Limit
    from_us: int | None
    until_us: int | None


def peaks(
    stamps: Sequence[int], in_force: Limit, history: Iterable[tuple[float, str]] = (), since_us: int = 0
) -> list[Peak]:
    """Return for each rule the fullest of the periods that end with a call at `since_us` or later.

    `stamps` are the slots in ascending order, microseconds of Redis time. A period is a half-open interval: two calls
    exactly a period apart are never in the same one. `history` are the limits that there were, each with since when in
    seconds, oldest first; the oldest is taken to have been in force before, and where there is none, `in_force` was.
    What is in force comes first, and those of its rules that no call was made under as well.
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
    """Return the most stamps in any period that ends with one of `stamps[first:last]`, and with which it ends.

    The fullest period can always be moved until it ends with a call, so those are all that need counting.
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
    most, first = 0, 0
    for last, stamp in enumerate(stamps):
        while stamp - stamps[first] >= span:
            first += 1
        most = max(most, last - first + 1)
    return most
