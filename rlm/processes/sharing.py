"""Which part of the workers wanted each supervisor runs: by the register, so that all come to the same answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from rlm.ledger.processes import MOST_LANES, Offer, Process
from rlm.plan.allocation import shares
from rlm.settings import Settings


def offer_of(settings: Settings) -> Offer:
    """Return what a supervisor with these settings offers."""
    workers = settings.workers
    return Offer(settings.capacity, workers.min, workers.max, dict(settings.host.labels))


def divide(wanted: int, supervisors: Iterable[Process], held: Mapping[str, int] | None = None) -> dict[str, int]:
    """Divide the workers wanted among supervisors, by their ids: hosts first, then the supervisors of each.

    Hosts that are `held` get no more than so many, and the others run what they would have run. Those that are cut off
    are held only while there are others. `workers.min` and `workers.max` are the largest that any says, so that one
    host with a configuration of its own does not change what the others run.

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
            hosts[one.host][one.id] = offers[one.id].capacity
    by_host = _by_host(total, {host: max(capacities.values()) for host, capacities in hosts.items()}, held or {})
    for host, capacities in hosts.items():
        found |= shares(by_host[host], capacities)
    return found


def _by_host(total: int, capacities: Mapping[str, int], held: Mapping[str, int]) -> dict[str, int]:
    """Divide workers among hosts; those that are held get as many as that, out of the same total."""
    if all(host in held for host in capacities):  # better one that may reach nothing than nobody
        held = {host: 0 for host, number in held.items() if number == 0}
    kept, spare = {}, max(0, total - 1)  # the first worker is one that can send
    for host in sorted(held.keys() & capacities.keys()):
        kept[host] = min(held[host], capacities[host], spare)
        spare -= kept[host]
    free = {host: 0 if host in held else capacity for host, capacity in capacities.items()}
    return shares(total - sum(kept.values()), free) | kept


def most_of(supervisors: Iterable[Process]) -> int:
    """Return `workers.max`: the largest that any of them says, without end if none says it."""
    return max((one.offer.most for one in supervisors if one.offer), default=MOST_LANES)


def room(supervisors: Iterable[Process], held: Mapping[str, int]) -> int | None:
    """Return how many workers their hosts take together, of which some are `held`; None if that is not known."""
    by_host: dict[str, int] = {}
    for one in supervisors:
        if one.offer is None:
            return None
        capacity = min(one.offer.capacity, held.get(one.host, one.offer.capacity))
        by_host[one.host] = max(capacity, by_host.get(one.host, 0))
    return sum(by_host.values()) if by_host else None


def _evenly(total: int, number: int, place: int) -> int:
    return total // number + (place < total % number)
