"""The hosts of a run: whose lanes can be counted on, and what those had in hand that are not heard of any more."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rlm.core.clock import system_clock
from rlm.core.endpoint import Limited
from rlm.core.text import counted
from rlm.core.window import WindowState
from rlm.ledger import Store
from rlm.ledger.claims import host_of
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Process, Role
from rlm.ledger.ways import HostWays, cut_off, shade
from scheduler.leader import Duty

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
        now = system_clock.monotonic()
        self._missing = {one: self._missing.get(one, now) for one in missing}
        due = [one for one in missing if self._is_due(one)]
        lately = {host_of(one) for one in due if now - self._missing[one] < MISSING_SECONDS}
        lost = [one for one in due if host_of(one) not in lately]  # all of a host together
        if lost and now >= self._not_before and not self._duty.lately_away:
            self._take_back(lost)
        return alive

    def _calling(self, workers: Iterable[Process]) -> set[str]:
        """Return the hosts that make the calls; asked for only where some host is in trouble."""
        return {one.host for one in workers} or (self._store.hosts.calling() if self._ways else set())

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
            log.warning(
                "Host %s is not heard of any more; %s of its %s go to other hosts",
                host,
                counted(events, "event"),
                counted(len(workers), "worker"),
                extra={"action": "free_host", "run_id": self._run_id},
            )

    def usable(self, workers: Sequence[Process]) -> tuple[list[Process], set[str]]:
        """Return those of `workers` whose hosts are not cut off, and which hosts of theirs are."""
        cut = cut_off(self._ways)
        return [one for one in workers if one.host not in cut], cut & {one.host for one in workers}

    def shade(self, windows: dict[str, WindowState], limited: Iterable[Limited], now: float) -> dict[str, WindowState]:
        """Return the windows as they are for these hosts: see `rlm.ledger.ways.shade`."""
        return shade(windows, limited, self._ways, self._hosts, now)
