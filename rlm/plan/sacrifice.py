"""Which events of a type are left over, if not all can be sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec


class Ranks(msgspec.Struct, frozen=True):
    """The waiting events of one type by priority: those carried over from an earlier run, and the new ones."""

    carried: Mapping[int, int] = msgspec.field(default_factory=dict)
    new: Mapping[int, int] = msgspec.field(default_factory=dict)


class Sacrifice(msgspec.Struct, frozen=True):
    """The events of one type that are left over, by priority, the lowest first.

    All events of the priorities in `whole` are left. `carried` of the events were already carried over.
    """

    by_priority: Mapping[int, int]
    whole: frozenset[int]
    carried: int


def sacrifice(number: int, ranks: Ranks) -> Sacrifice:
    """Return the `number` events that go last: from the lowest priority up, and the new ones first in each.

    A run takes a type's events by priority, then by age, and a carried event is older than a new one.
    """
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
