"""How workers are divided in proportion to capacities."""

from __future__ import annotations

import heapq
from collections.abc import Mapping


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
