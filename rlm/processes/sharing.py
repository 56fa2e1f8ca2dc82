"""How the wanted workers are divided among hosts: all supervisors read the same register, so all get the same result.

Of several supervisors on one host, with one configuration, the newest has its share. One that is not heard from has no
share. Silence is counted by the clock of this host, and only while this host listened: Redis may have lost the
register, or been away.

A supervisor starts no worker that takes a place of another one. Those that others run beyond their shares, because they
finish their calls, take places too. So there are no more than `workers.max` while hosts take over from one another.
Workers started by hand take no place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from rlm.core.clock import system_clock
from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Offer, Process, Role
from rlm.ledger.store import Store
from rlm.settings import Settings


def offer_of(settings: Settings) -> Offer:
    """Return what a supervisor with these settings offers."""
    workers = settings.workers
    return Offer(settings.capacity, workers.min, workers.max)


def shares(wanted: int, capacities: Mapping[str, int]) -> dict[str, int]:
    """Divide `wanted` workers by capacities; the sum is `wanted`, or the total capacity if that is less.

    Each worker goes where the smallest part of the capacity is used, counting half a worker ahead (Webster's method);
    ties go by name. So every share is within one of its proportion, and one more or one fewer wanted moves no worker
    from one host to another, which the largest remainder might do.
    """
    given = dict.fromkeys(sorted(capacities), 0)
    for _ in range(min(wanted, sum(capacities.values()))):
        able = [name for name in given if given[name] < capacities[name]]
        given[min(able, key=lambda name: (2 * given[name] + 1) / capacities[name])] += 1
    return given


def divide(wanted: int, supervisors: Iterable[Process]) -> dict[str, int]:
    """Divide the wanted workers among supervisors, by id.

    The largest `workers.min` and `workers.max` of all supervisors count, so one host with another configuration does
    not change what the others run.
    """
    every = list(supervisors)
    offers = _serving(every)
    least = max((offer.least for offer in offers.values()), default=0)
    most = max((offer.most for offer in offers.values()), default=0)
    divided = shares(min(max(wanted, least), most), {name: offer.capacity for name, offer in offers.items()})
    return {one.id: divided.get(one.id, 0) for one in every}


def room(supervisors: Iterable[Process]) -> int:
    """Return how many workers their hosts take together."""
    return sum(offer.capacity for offer in _serving(supervisors).values())


def places_left(
    own: str, by_supervisor: Mapping[str, int], supervisors: Iterable[Process], workers: Iterable[Process]
) -> int:
    """Return how many workers the supervisor `own` may have besides those that others run or are to run."""
    most = max((offer.most for offer in _serving(supervisors).values()), default=0)
    running = Counter(one.supervisor for one in workers)
    others = (by_supervisor.keys() | running.keys()) - {own, ""}
    return max(0, most - sum(max(by_supervisor.get(name, 0), running[name]) for name in others))


def _serving(supervisors: Iterable[Process]) -> dict[str, Offer]:
    """Return the offers of the newest supervisors of each host and configuration, by id; one that stops has none."""
    offering = sorted((one.started_at, one.id, one) for one in supervisors if one.offer is not None)
    return {one.id: one.offer for one in {(one.host, one.revision): one for *_, one in offering}.values() if one.offer}


class Peers:
    """The supervisors of all hosts, followed by their announcements."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heard: dict[str, tuple[Process, float]] = {}
        self._looked_at = float("-inf")

    def look(self) -> dict[str, Process]:
        """Return the last announcements of those that live, by id."""
        now = system_clock.monotonic()
        if now > self._looked_at + HEARTBEAT_SECONDS:
            self._heard = {name: (one, now) for name, (one, _) in self._heard.items()}
        for one in self._store.processes.alive(Role.SUPERVISOR):
            if one.id not in self._heard or self._heard[one.id][0].said_at != one.said_at:
                self._heard[one.id] = one, now
        self._looked_at = now
        self._heard = {name: each for name, each in self._heard.items() if now < each[1] + HEARTBEAT_TTL_SECONDS}
        return {name: one for name, (one, _) in self._heard.items()}
