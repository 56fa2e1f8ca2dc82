"""How the workers wanted are divided among hosts, in proportion to what each can take. Pure.

Each worker in turn goes to the host that has the smallest part of its capacity by then, counting half a worker ahead
(the method of Webster). So every share is within one of its proportional part, is never above the capacity, and never
falls because another host goes: hosts that see one of them go at different moments are never too many together.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def shares(wanted: int, capacities: Mapping[str, int]) -> dict[str, int]:
    """Divide `wanted` workers among those with these capacities; together as many as are wanted, if they can take them.

    Equal claims go by name, so that all who know the same capacities get the same answer.
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
