"""Who gets what if there is not enough for all: slots by the order of use, lanes by share, workers by capacity.

The order of use has two forms: one slot at a time, for releases, and many slots at once, for simulations.
`tests/unit/test_plan_properties.py` checks that they agree.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from rlm.core.endpoint import Endpoint


def due(share: float, begun_of_all: int, begun: int) -> int:
    """Return how many more calls a type should get by its share: `begun` of `begun_of_all` calls are its own.

    `begun_of_all` also counts the calls that can begin now. These are fewer than the idle lanes if slots are scarce.
    """
    return math.floor(share * begun_of_all) - begun


def kept_from(takes: float, waiting: Iterable[tuple[float, int]]) -> int:
    """Return how many idle lanes a call that takes so long leaves to more urgent types.

    `waiting` has, for each type with kept lanes, in what time its next call can be answered, and how many they are.
    They are left to it if that is before the long call is answered.
    """
    return sum(lanes for answered_in, lanes in waiting if answered_in <= takes)


def in_order_of_use(free: dict[str, int], endpoints: tuple[Endpoint, ...]) -> Iterator[str]:
    """Take free slots one by one in the order of use, and yield the endpoint of each.

    The primary's slots are first. Then the overflow endpoint with the most free slots is next; of equal ones, the first
    configured. A slot at an endpoint with a budget also takes one of the budget. `free` has the free slots by the name
    of endpoint or budget; a missing one has none.
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
            heapq.heappop(tallest)  # free slots never increase


def _has_slot(free: Mapping[str, int], endpoint: Endpoint) -> bool:
    return free.get(endpoint.name, 0) > 0 and (endpoint.budget is None or free.get(endpoint.budget.name, 0) > 0)


def _take_slot(free: dict[str, int], endpoint: Endpoint) -> str:
    free[endpoint.name] -= 1
    if endpoint.budget is not None:
        free[endpoint.budget.name] -= 1
    return endpoint.name


def divide(wanted: int, free: Sequence[int], budgets: Sequence[str | None], free_in: Mapping[str, int]) -> list[int]:
    """Divide up to `wanted` slots over a type's endpoints, with the result of `in_order_of_use`.

    `free` has the free slots of each endpoint, the primary's first; `budgets` has the budget of each, or None;
    `free_in` has the free slots of each budget.
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
    """Divide `wanted` slots, at most as many as are free, over endpoints without budgets.

    The primary gives all it has. The overflows are lowered from the top to one level; for the remainder, the first ones
    in order give one more each.
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
    """Return the lowest common level that taking at most `wanted` slots, fewer than the total, can reach.

    The amount above a level is the largest one over any number of the tallest, so checking each number suffices.
    """
    tallest = itertools.accumulate(sorted(free, reverse=True))
    return max(-((wanted - slots) // number) for number, slots in enumerate(tallest, start=1))


def _one_by_one(
    wanted: int, free: Sequence[int], budgets: Sequence[str | None], free_in: Mapping[str, int]
) -> list[int]:
    """Divide one by one, if a budget has fewer slots than its endpoints; a used-up budget excludes its endpoints."""
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
    """Divide `wanted` workers among hosts by their capacities; the sum is `wanted`, or the total capacity if less.

    Each worker goes to the host with the smallest used part of its capacity, counting half a worker ahead (Webster's
    method). So every share is within one of its proportion, and at most the capacity. No share shrinks because another
    host leaves, so hosts that notice this at different times never have too many workers together. Ties go by name, so
    everyone who knows the same capacities computes the same result.
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
