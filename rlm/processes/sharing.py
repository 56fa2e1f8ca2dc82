"""Which part of the workers wanted each supervisor runs: by the register, so that all come to the same answer."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rlm.ledger.processes import MOST_LANES, Offer
from rlm.plan.shares import shares

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rlm.ledger.processes import Process
    from rlm.settings import Settings


def offer_of(settings: Settings) -> Offer:
    """Return what a supervisor with these settings offers."""
    workers = settings.workers
    return Offer(settings.capacity, workers.min, workers.max, dict(settings.host.labels))


def divide(wanted: int, supervisors: Iterable[Process], idle_hosts: Collection[str] = ()) -> dict[str, int]:
    """Divide the workers wanted among supervisors, by their ids: hosts first, then the supervisors of each.

    `idle_hosts` get none, and the others run what they would have run. `workers.min` and `workers.max` are the largest
    that any says, so that one host with a configuration of its own does not change what the others run.

    A supervisor of a version that makes no offer takes an even part, as it always did; the others share what is left.
    """
    every = sorted(supervisors, key=lambda one: one.id)
    offers = {one.id: one.offer for one in every if one.offer}
    least = max((one.least for one in offers.values()), default=0)
    total = min(max(wanted, least), most_of(every))
    found = {one.id: _evenly(total, len(every), place) for place, one in enumerate(every) if one.id not in offers}
    total -= sum(found.values())

    hosts: dict[str, dict[str, int]] = defaultdict(dict)
    for one in every:
        if one.id in offers:
            hosts[one.host][one.id] = 0 if one.host in idle_hosts else offers[one.id].capacity
    by_host = shares(total, {host: max(capacities.values()) for host, capacities in hosts.items()})
    for host, capacities in hosts.items():
        found |= shares(by_host[host], capacities)
    return found


def most_of(supervisors: Iterable[Process]) -> int:
    """Return `workers.max`: the largest that any of them says, without end if none says it."""
    return max((one.offer.most for one in supervisors if one.offer), default=MOST_LANES)


def room(supervisors: Iterable[Process], idle_hosts: Collection[str] = ()) -> int | None:
    """Return how many workers their hosts take together; None if there are none, or one does not say."""
    by_host: dict[str, int] = {}
    for one in supervisors:
        if one.offer is None:
            return None
        capacity = 0 if one.host in idle_hosts else one.offer.capacity
        by_host[one.host] = max(capacity, by_host.get(one.host, 0))
    return sum(by_host.values()) if by_host else None


def _evenly(total: int, number: int, place: int) -> int:
    return total // number + (place < total % number)
