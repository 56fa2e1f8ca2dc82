"""What a process announces, and how the wanted workers are divided among hosts.

All supervisors read the same register, so all get the same result.

A supervisor starts no worker that takes a place of another one. Those that others run beyond their shares, because they
finish their calls, take places too. So there are no more than `workers.max` while hosts take over from one another.
Workers started by hand take no place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from rlm.ledger.processes import Offer, Process
from rlm.settings import Settings, apart_of


def entry_of(settings: Settings, process_id: str, pid: int, started_at: float) -> Process:
    """Return the register's entry of a process with these `settings`; `started_at` is in seconds since 1970."""
    return Process(
        process_id,
        pid,
        settings.host_name,
        started_at,
        threads=settings.workers.threads,
        revision=settings.revision,
        file=str(settings.source or ""),
        apart=apart_of(settings.event_types),
    )


def serving(supervisors: Iterable[Process], revision: str) -> dict[str, Offer]:
    """Return the offers of the supervisors that have a share, by id.

    They have the configuration in force, of this `revision`, unless nobody has it; of several on a host it is the
    newest. One that stops offers nothing.
    """
    offering = sorted((each for each in supervisors if each.offer), key=lambda each: (each.started_at, each.id))
    in_force = [each for each in offering if revision in {"", each.revision}]
    newest = {each.host: each for each in in_force or offering}
    return {each.id: each.offer for each in newest.values() if each.offer}


def divide(wanted: int, offers: Mapping[str, Offer]) -> dict[str, int]:
    """Divide the wanted workers among the supervisors with these offers, by id; nobody else has a share.

    The largest `workers.min` and `workers.max` of all count, so that all hosts get the same result. Each worker goes
    where the smallest part of the capacity is used, counting half a worker ahead (Webster's method); ties go by name.
    So every share is within one of its proportion, and one more or one fewer wanted moves no worker from one host to
    another, which the largest remainder might do.
    """
    least = max((offer.least for offer in offers.values()), default=0)
    given = dict.fromkeys(sorted(offers), 0)
    for _ in range(min(max(wanted, least), _most(offers), room(offers))):
        able = [name for name in given if given[name] < offers[name].capacity]
        given[min(able, key=lambda name: (2 * given[name] + 1) / offers[name].capacity)] += 1
    return given


def _most(offers: Mapping[str, Offer]) -> int:
    return max((offer.most for offer in offers.values()), default=0)


def room(offers: Mapping[str, Offer]) -> int:
    """Return how many workers their hosts take together."""
    return sum(offer.capacity for offer in offers.values())


def places_left(own: str, divided: Mapping[str, int], offers: Mapping[str, Offer], workers: Iterable[Process]) -> int:
    """Return how many workers the supervisor `own` may have besides those that others run or are to run."""
    running = Counter(worker.supervisor for worker in workers)
    others = (divided.keys() | running.keys()) - {own, ""}
    return max(0, _most(offers) - sum(max(divided.get(name, 0), running[name]) for name in others))
