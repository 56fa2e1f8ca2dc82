"""How the wanted workers are divided among supervisors: all read the same register, so all get the same result.

A supervisor that signed off is gone at once. One that is missing from the register may live: Redis may have lost the
register, or its clock was set. It keeps its share until it was silent for too long. Silence is counted by the clock of
this host, and only while this host listened, so the first supervisor that is back does not take everything.

A supervisor starts no worker that takes a place of another one. Those that others run beyond their shares, because they
finish their calls, take places too. So there are no more than `workers.max` while hosts take over from one another.
Workers started by hand take no place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from rlm.core.clock import system_clock
from rlm.ledger import Store
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, LEFT, MOST_LANES, Offer, Process, Role
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
    """Divide the wanted workers among supervisors, by id: first among hosts, then among the supervisors of each host.

    The largest `workers.min` and `workers.max` of all supervisors count, so one host with another configuration does
    not change what the others run.
    """
    every = {one.id: (one.host, one.offer or Offer(0, 0, 0)) for one in supervisors}
    hosts: dict[str, dict[str, int]] = defaultdict(dict)
    for name, (host, offer) in every.items():
        hosts[host][name] = offer.capacity
    least = max((offer.least for _, offer in every.values()), default=0)
    most = max((offer.most for _, offer in every.values()), default=0)
    by_host = shares(min(max(wanted, least), most), {host: max(each.values()) for host, each in hosts.items()})
    return {name: share for host, each in hosts.items() for name, share in shares(by_host[host], each).items()}


def room(supervisors: Iterable[Process]) -> int:
    """Return how many workers their hosts take together."""
    by_host: dict[str, int] = {}
    for one in supervisors:
        by_host[one.host] = max(one.offer.capacity if one.offer else 0, by_host.get(one.host, 0))
    return sum(by_host.values())


#: After a longer pause between two looks, seconds, silence counts only from the second look on: Redis may have been
#: away, or this host suspended.
LISTENING_SECONDS = 2.0


class Peer(msgspec.Struct):
    """The last announcement of a supervisor, and the seconds of silence since."""

    said: Process
    silent_seconds: float = 0.0

    @property
    def lives(self) -> bool:
        """Whether it was heard from recently. If not it may still be registered, but must announce itself to live."""
        return self.silent_seconds <= HEARTBEAT_TTL_SECONDS


class Peers:
    """Follows the supervisors of all hosts by their announcements."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._peers: dict[str, Peer] = {}
        self._looked_at = system_clock.monotonic()
        self.died: list[str] = []  #: those that were missed at the last look, without having signed off

    def look(self) -> dict[str, Process | None]:
        """Update who lives; return the register's entries by id, None for a supervisor that is no longer in it."""
        now = system_clock.monotonic()
        listened = now - self._looked_at
        found = self._store.processes.heard(Role.SUPERVISOR, self._peers)
        for peer in (one for one in self._peers.values() if one.lives):
            peer.silent_seconds = peer.silent_seconds + listened if listened <= LISTENING_SECONDS else 0.0
        for name, one in found.items():
            known = self._peers.get(name)
            if one is not None and (known is None or not one.said_at or one.said_at != known.said.said_at):
                self._peers[name] = Peer(one)
        self._looked_at = now
        self._peers = {name: peer for name, peer in self._peers.items() if peer.said.state != LEFT}
        self.died = [name for name, peer in self._peers.items() if not peer.lives and found.get(name) is None]
        for name in self.died:
            del self._peers[name]
        return found

    @property
    def living(self) -> list[Process]:
        """The last announcements of the supervisors that live."""
        return [peer.said for peer in self._peers.values() if peer.lives]

    def shares(self, own: Process) -> dict[str, int]:
        """Return how many of the wanted workers each supervisor is to run, `own` too if the register lacks it."""
        every = {one.id: one for one in self.living} | {own.id: own}
        return divide(self._store.processes.wanted(), every.values())

    def places_left(self, own: Process, by_supervisor: Mapping[str, int]) -> int:
        """Return how many workers `own` may have besides those of others, which have these shares.

        The largest `workers.max` of all counts. A worker that its supervisor is about to stop takes a place until it is
        no longer heard from.
        """
        most = max((one.offer.most for one in [own, *self.living] if one.offer), default=MOST_LANES)
        running = Counter(one.supervisor for one in self._store.processes.alive(Role.WORKER))
        others = (by_supervisor.keys() | running.keys()) - {own.id, ""}
        return max(0, most - sum(max(by_supervisor.get(name, 0), running[name]) for name in others))
