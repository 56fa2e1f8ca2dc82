"""How slots are divided over a type's endpoints: as `rlm.core.endpoint.in_order_of_use` does, but many at once."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def divide(wanted: int, free: Sequence[int], budgets: Sequence[str | None], free_in: Mapping[str, int]) -> list[int]:
    """Divide up to `wanted` slots over a type's endpoints.

    Args:
        wanted: how many slots, at the most.
        free: the free slots of each endpoint, the primary's first.
        budgets: the budget of each endpoint, None where it has none.
        free_in: the free slots of each budget.
    """
    given = share(min(wanted, sum(free)), free)
    if not free_in:
        return given
    spent: Counter[str] = Counter()
    for budget, slots in zip(budgets, given, strict=True):
        if budget is not None:
            spent[budget] += slots
    if all(slots <= free_in[budget] for budget, slots in spent.items()):
        return given
    return _one_by_one(wanted, free, budgets, free_in)


def share(wanted: int, free: Sequence[int]) -> list[int]:
    """Divide `wanted` slots, no more than there are, over endpoints without budgets.

    The primary gives what it has; the overflows give from the top down to one level, and what does not come out even
    goes one each by their order.
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
    """Find the lowest level that all can be brought down to by taking at most `wanted`, which is less than all.

    What is above a level is most for some number of the tallest, so it is little enough when it is for each number.
    """
    tallest = itertools.accumulate(sorted(free, reverse=True))
    return max(-((wanted - slots) // number) for number, slots in enumerate(tallest, start=1))


def _one_by_one(
    wanted: int, free: Sequence[int], budgets: Sequence[str | None], free_in: Mapping[str, int]
) -> list[int]:
    """Divide where a budget has fewer slots than its endpoints: an endpoint is out once its budget is used up."""
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
