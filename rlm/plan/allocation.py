"""Who gets what if there is not enough for all: slots by the order of use, lanes by share, hosts by capacity, time.

The order of use has two forms: slot by slot, for releases, and many slots at once, for simulations. The properties in
`tests/unit/test_plan_properties.py` compare the two.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from rlm.core.endpoint import Endpoint


def due(share: float, begun_of_all: int, begun: int) -> int:
    """Return how many more calls are due to a type by its share, of `begun_of_all` of which `begun` are its own."""
    return math.floor(share * begun_of_all) - begun


def in_order_of_use(free: dict[str, int], endpoints: tuple[Endpoint, ...]) -> Iterator[str]:
    """Take free slots one by one, in the order of use: first the primary's slots, then the overflows' evenly.

    Yield the endpoint of each. Evenly means that the overflow endpoint with the most free slots is next; of equal ones,
    the first configured. A slot at an endpoint with a budget takes one of the budget as well. `free` has the free slots
    by the name of endpoint or budget; one that is missing has none.
    """
    primary, *overflow = endpoints
    while _has_slot(free, primary):
        yield _take_slot(free, primary)
    tallest = [(-free.get(endpoint.name, 0), index) for index, endpoint in enumerate(overflow)]
    heapq.heapify(tallest)
    while tallest:
        index = tallest[0][1]
        if _has_slot(free, overflow[index]):
            name = _take_slot(free, overflow[index])
            heapq.heapreplace(tallest, (-free[name], index))
            yield name
        else:
            heapq.heappop(tallest)  # free slots only become fewer


def _has_slot(free: Mapping[str, int], endpoint: Endpoint) -> bool:
    return free.get(endpoint.name, 0) > 0 and (endpoint.budget is None or free.get(endpoint.budget.name, 0) > 0)


def _take_slot(free: dict[str, int], endpoint: Endpoint) -> str:
    free[endpoint.name] -= 1
    if endpoint.budget is not None:
        free[endpoint.budget.name] -= 1
    return endpoint.name


def divide(wanted: int, free: Sequence[int], budgets: Sequence[str | None], free_in: Mapping[str, int]) -> list[int]:
    """Divide up to `wanted` slots over a type's endpoints, as `in_order_of_use` would one by one.

    `free` has the free slots of each endpoint, the primary's first, `budgets` the budget of each, None if it has none,
    and `free_in` the free slots of each budget.
    """
    given = _without_budgets(min(wanted, sum(free)), free)
    if not free_in:
        return given
    spent: Counter[str] = Counter()
    for budget, slots in zip(budgets, given, strict=True):
        if budget is not None:
            spent[budget] += slots
    if all(slots <= free_in[budget] for budget, slots in spent.items()):
        return given
    return _one_by_one(wanted, free, budgets, free_in)


def _without_budgets(wanted: int, free: Sequence[int]) -> list[int]:
    """Divide `wanted` slots, no more than there are, over endpoints without budgets.

    The primary gives all it has. The overflows give from the top down to one level, and those first in order give one
    more each for the remainder.
    """
    primary, *overflow = free
    if wanted <= primary:
        return [wanted, *[0 for _ in overflow]]
    if wanted == sum(free):
        return list(free)
    level = _level(wanted - primary, overflow)
    given = [primary, *[max(0, slots - level) for slots in overflow]]
    odd = wanted - sum(given)
    for index, slots in enumerate(overflow, start=1):
        if odd and slots >= level:
            given[index] += 1
            odd -= 1
    return given


def _level(wanted: int, free: Sequence[int]) -> int:
    """Return the lowest level to which all can be lowered by taking at most `wanted`, which is less than the total.

    The amount above a level is the largest one over any number of the tallest, so checking each number suffices.
    """
    tallest = itertools.accumulate(sorted(free, reverse=True))
    return max(-((wanted - slots) // number) for number, slots in enumerate(tallest, start=1))


def _one_by_one(
    wanted: int, free: Sequence[int], budgets: Sequence[str | None], free_in: Mapping[str, int]
) -> list[int]:
    """Divide one by one, for a budget with fewer slots than its endpoints: they are out once it is used up."""
    left: dict[str | None, int] = {None: sum(free)}
    left.update(free_in)
    given = [min(wanted, free[0], left[budgets[0]]), *[0 for _ in free[1:]]]
    left[budgets[0]] -= given[0]
    tallest = [(-slots, index) for index, slots in enumerate(free) if slots and index]
    heapq.heapify(tallest)
    missing = wanted - given[0]
    while tallest and missing:
        slots, index = heapq.heappop(tallest)
        if left[budgets[index]]:
            given[index] += 1
            left[budgets[index]] -= 1
            missing -= 1
            if slots < -1:
                heapq.heappush(tallest, (slots + 1, index))
    return given


def shares(wanted: int, capacities: Mapping[str, int]) -> dict[str, int]:
    """Divide `wanted` workers among hosts with these capacities; together as many as are wanted, if they can take them.

    Each worker in turn goes to the host that has the smallest part of its capacity by then, counting half a worker
    ahead (the method of Webster). So every share is within one of its proportional part, is never above the capacity,
    and never falls because another host goes: hosts that see one of them go at different moments are never too many
    together. Equal claims go by name, so that all who know the same capacities get the same answer.
    """
    given = dict.fromkeys(capacities, 0)
    able = {name: capacity for name, capacity in capacities.items() if capacity > 0}
    if wanted >= sum(able.values()):
        return given | able
    claims = [(1 / capacity, name) for name, capacity in able.items()]
    heapq.heapify(claims)
    for _ in range(max(0, wanted)):
        _, name = claims[0]
        given[name] += 1
        heapq.heapreplace(claims, ((2 * given[name] + 1) / able[name], name))
    return given


class Ranks(msgspec.Struct, frozen=True):
    """The waiting events of one type, by priority: those carried over from an earlier run, and the new ones."""

    carried: Mapping[int, int] = msgspec.field(default_factory=dict)
    new: Mapping[int, int] = msgspec.field(default_factory=dict)


class Sacrifice(msgspec.Struct, frozen=True):
    """The events of one type that are left over, by priority, the lowest first.

    Of the priorities in `whole` all are left. `carried` of the events were carried over before.
    """

    by_priority: Mapping[int, int]
    whole: frozenset[int]
    carried: int


def sacrifice(number: int, ranks: Ranks) -> Sacrifice:
    """Return the `number` events that go last: from the lowest priority up, in each the new ones first.

    A run goes through a type's events by priority, then by age, and a carried event is older than a new one.
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
