"""Which events of a type wait where not all fit: the rule by which a run goes through them, on counts.

The events of a type go by the priority of their items, the higher first, then by age. What was carried over is older
than what is new, so within a priority it goes first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Ranks:
    """The waiting events of one type by priority: those carried over from an earlier run, and the new ones."""

    carried: Mapping[int, int] = field(default_factory=dict)
    new: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sacrifice:
    """The events of one type that are left over, by priority, the lowest first; `whole` priorities are left entirely.

    `carried` of them were carried over before.
    """

    by_priority: Mapping[int, int]
    whole: frozenset[int]
    carried: int


def sacrifice(number: int, ranks: Ranks) -> Sacrifice:
    """Choose the `number` events that go last: from the lowest priority up, in each the new ones first."""
    left: Counter[int] = Counter()
    whole = set()
    carried = 0
    for priority in sorted({*ranks.new, *ranks.carried}):
        newcomers, veterans = ranks.new.get(priority, 0), ranks.carried.get(priority, 0)
        chosen = min(number - left.total(), newcomers + veterans)
        if chosen > 0:
            left[priority] = chosen
            carried += max(0, chosen - newcomers)
            if chosen == newcomers + veterans:
                whole.add(priority)
    return Sacrifice(dict(left), frozenset(whole), carried)
