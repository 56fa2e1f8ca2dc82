"""The hosts: which are lost, and of a run whose lanes can be counted on, and what those had in hand that fell silent.

Whoever leads names those that are lost, once, and tells when they are back, in mid-run and between runs.

A host is lost if none of its supervisors and schedulers is heard of for a heartbeat's life, and one did not sign off.
Its share of the workers is the others' by then (rlm/processes/sharing.py).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.endpoint import Limited
from rlm.core.text import counted, span
from rlm.core.window import WindowState
from rlm.ledger import Store
from rlm.ledger.claims import host_of
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Process, Role
from rlm.ledger.ways import HostWays, cut_off, shade
from rlm.processes.sharing import LISTENING_SECONDS, Peers
from scheduler.leader import Duty

#: A host that has been lost for so long is forgotten, seconds.
FORGET_SECONDS = 86_400.0

log = logging.getLogger(__name__)


def unheard(store: Store, missing: Iterable[str]) -> set[str]:
    """Return the hosts of which nothing is heard, neither supervisor nor scheduler, among those of `missing` ones."""
    hosts = {host_of(one) for one in missing}
    if not hosts:
        return set()
    return hosts - {one.host for role in (Role.SUPERVISOR, Role.SCHEDULER) for one in store.processes.alive(role)}


def report_lost(store: Store, host: str) -> None:
    """Name a host that is lost, and raise the alarm, unless somebody has."""
    if store.hosts.lose(host):
        told = "Host %s is lost: nothing of it is heard of, and it did not sign off; the others have its share"
        extra = alarm(Alarm.HOST_LOST, "lose_host", host=host)
        log.warning(told, host, extra=extra)


class HostWatch:
    """Follows the hosts of an installation for one scheduler."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._peers = Peers(store)
        self._began_at = system_clock.monotonic()
        self._lost = True  #: as far as it knows there are some that are lost

    def look(self, *, aloud: bool) -> bool:
        """Note who lives; name who is lost or is back, if `aloud`. Return whether there are other hosts to follow."""
        found = self._peers.look()
        living = {one.host for one in self._peers.living}
        missing = [name for name, one in found.items() if one is None]
        if aloud and (missing or self._lost) and system_clock.monotonic() - self._began_at > HEARTBEAT_TTL_SECONDS:
            silent = unheard(self._store, missing)
            for host in sorted(silent - living):
                report_lost(self._store, host)
            self._see_back(silent)
        # One that is silent is still in the register: as soon as it is not, it is named.
        return bool((living | {one.host for one in found.values() if one}) - {self._store.settings.host_name})

    def _see_back(self, silent: set[str]) -> None:
        """Take note of those that are back, and of those that are not expected back any more."""
        for host, seconds in self._store.hosts.lost().items():
            if host not in silent:
                self._store.hosts.forget(host)
                log.info("Host %s is back, after %s", host, span(seconds), extra={"action": "find_host"})
            elif seconds > FORGET_SECONDS:
                self._store.hosts.forget(host)
                log.info("Host %s has been lost for a day, and is forgotten", host, extra={"action": "forget_host"})
        self._lost = bool(self._store.hosts.lost())


#: A worker must be missing for so long, seconds: with a step of the clock of Redis all entries may end at once, which
#: is noticed meanwhile.
MISSING_SECONDS = 0.5

log = logging.getLogger(__name__)


class RunHosts:
    """Follows the hosts of one run."""

    def __init__(self, store: Store, run_id: str, duty: Duty) -> None:
        self._store = store
        self._run_id = run_id
        self._duty = duty
        self._ways: Mapping[str, HostWays] = store.ways.look()  # or the first calls went where nobody gets through
        self._hosts = self._calling(())
        self._fenced: set[str] = set()
        self._missing: dict[str, float] = {}
        self._freed: set[str] = set()
        self._said: dict[str, tuple[float, float]] = {}  #: what each worker said last, and when that was heard
        self._silent: set[str] = set()
        self._looked_at = float("-inf")
        self._known: list[str] = []
        self._shifted_us = 0
        self._not_before = float("-inf")

    def look(self, shifted_us: int = 0) -> list[Process]:
        """Return the workers that are heard of; take back what lost hosts had in hand.

        `shifted_us` is by how much the clock of Redis was moved so far: entries end with it.
        """
        if shifted_us != self._shifted_us:
            self._shifted_us, self._not_before = shifted_us, system_clock.monotonic() + HEARTBEAT_TTL_SECONDS
        alive, missing = self._store.processes.look(Role.WORKER)
        self._ways = self._store.ways.look()
        self._hosts = self._calling(alive)
        self._fenced |= {one.id for one in alive if one.fenced}
        self._freed.difference_update(one.id for one in alive)
        self._known = [*missing, *(one.id for one in alive)]
        now = system_clock.monotonic()
        self._listen(alive, now)
        self._missing = {one: self._missing.get(one, now) for one in missing}
        due = [one for one in missing if self._is_due(one)]
        lately = {host_of(one) for one in due if now - self._missing[one] < MISSING_SECONDS}
        lost = [one for one in due if host_of(one) not in lately]  # all of a host together
        if lost and now >= self._not_before and not self._duty.lately_away:
            self._take_back(lost)
        return alive

    def _listen(self, alive: Sequence[Process], now: float) -> None:
        """Note which workers are silent: heard of no more while this process listens, nor by when their entries end."""
        said, since, ids = self._said, [now] * len(alive), [one.id for one in alive]
        if now - self._looked_at > LISTENING_SECONDS:
            silences = [] if self._duty.lately_away else self._store.processes.silences(Role.WORKER, ids)
            said, since = {}, [now - one for one in silences] or since
        self._looked_at = now
        new = {one.id: (one.said_at, at) for one, at in zip(alive, since, strict=True)}
        self._said = new | {one: said[one] for one in ids if one in said and said[one][0] == new[one][0]}
        self._silent = {one.id for one in alive if now - self._said[one.id][1] > one.silent_after}

    def _calling(self, workers: Iterable[Process]) -> set[str]:
        """Return the hosts that make the calls, else those that would; asked for only where some host is in trouble.

        What is released that only hosts without workers reach is made by nobody, and would keep lanes from other calls.
        """
        return {one.host for one in workers} or (self._store.ways.calling() if self._ways else set())

    def _is_due(self, worker_id: str) -> bool:
        return worker_id in self._fenced and worker_id not in self._freed

    def _take_back(self, lost: Iterable[str]) -> None:
        """Take back what workers had in hand whose host nothing is heard of; others have a supervisor that does."""
        living = {one.host for role in Role for one in self._store.processes.alive(role)}
        by_host: dict[str, list[str]] = defaultdict(list)
        for worker_id in lost:
            by_host[host_of(worker_id)].append(worker_id)
        for host, workers in by_host.items():
            if host in living:
                continue
            events = sum(self._store.recovery.orphan_lost(one) for one in workers)
            self._freed.update(workers)
            told = "Host %s is not heard of any more; %s of its %s go to other hosts"
            extra = {"action": "free_host", "run_id": self._run_id}
            log.warning(told, host, counted(events, "event"), counted(len(workers), "worker"), extra=extra)

    def usable(self, workers: Sequence[Process]) -> tuple[list[Process], set[str]]:
        """Return those of `workers` that neither are silent nor have a host that is cut off; and which hosts are."""
        cut = cut_off(self._ways)
        usable = [one for one in workers if one.host not in cut and one.id not in self._silent]
        return usable, cut & {one.host for one in workers}

    def held_beside(self, workers: Sequence[Process]) -> int:
        """Return how many events others than these `workers` have in hand: they are in flight, on nobody's lane."""
        ids = set(self._known).difference(one.id for one in workers)
        return sum(self._store.processes.busy(sorted(ids))) if ids else 0

    def shade(self, windows: dict[str, WindowState], limited: Iterable[Limited], now: float) -> dict[str, WindowState]:
        """Return the windows as they are for these hosts: see `rlm.ledger.ways.shade`."""
        return shade(windows, limited, self._ways, self._hosts, now)
