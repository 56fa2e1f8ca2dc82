"""The workers that a run may count on, and the alarm if some are missing and nobody starts any."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.text import counted, of_another_configuration
from rlm.ledger import Store
from rlm.ledger.claims import host_of
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Role
from rlm.processes.sharing import room
from scheduler.hosts import report_lost, unheard
from scheduler.housekeeping import report_death
from scheduler.leader import Duty

#: A supervisor that was not heard of for longer is not counted on, seconds: it speaks every `HEARTBEAT_SECONDS`.
HEARD_SECONDS = HEARTBEAT_SECONDS + 1.0
#: How long missing workers are still counted on, seconds: one that died is replaced within a second.
PATIENCE_SECONDS = 2.0
#: The same before the first of a run has come up: its supervisor's template may have to load first.
FIRST_PATIENCE_SECONDS = 5.0
#: The same if no supervisor is in the register at all.
UNKNOWN_SECONDS = 1.0
#: How long the first release waits for the rest of the wanted workers once one is ready, seconds: while they boot,
#: calls leave later than a slot's guard allows for.
GATHER_SECONDS = 0.5
#: The same as a part of the run's window, if that is shorter: waiting longer would cost more than it gains.
GATHER_PART = 0.025

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Team:
    """How many workers are `ready`, and how many of them a forecast may count on.

    `supervised`: a supervisor lives that starts more. `shortage` says in words what is wrong, empty if those wanted are
    on their way. `strangers` are ready too, but have another configuration, and claim nothing.
    """

    ready: int
    supervised: bool
    shortage: str = ""
    strangers: int = 0

    @property
    def counted_on(self) -> int | None:
        """How many workers there will be for the rest of the run; None if all that are wanted come."""
        return self.ready if self.shortage else None


class TeamWatch:
    """Follows the workers of one run, and raises the alarm if some are missing and nobody starts any."""

    def __init__(self, store: Store, run_id: str, duty: Duty) -> None:
        self._store = store
        self._run_id = run_id
        self._duty = duty
        self._short_since: float | None = None
        self._met = False
        self._told = False

    def look(self, ready: int, wanted: int, *, strangers: int = 0, cut: Collection[str] = ()) -> Team:
        """Return the team that `ready` workers are if so many are `wanted`, beside `strangers` and hosts `cut` off."""
        self._met = self._met or ready > 0
        if ready >= wanted:
            self._short_since = None
            return Team(ready, supervised=True, strangers=strangers)
        now = system_clock.monotonic()
        self._short_since = now if self._short_since is None else self._short_since
        supervisors = self._store.processes.alive(Role.SUPERVISOR)
        names = [one.id for one in supervisors]
        silences = self._store.processes.silences(Role.SUPERVISOR, names) if names else []
        supervised = any(silence <= HEARD_SECONDS for silence in silences)
        if now - self._short_since < self._patience_seconds(known=bool(supervisors)):
            return Team(ready, supervised, strangers=strangers)
        why = _cut_off(cut) or self._why(wanted, supervisors, strangers, supervised=supervised)
        there = f"{counted(ready, 'worker')} {'is' if ready == 1 else 'are'} ready" if ready else "no worker is ready"
        return Team(ready, supervised, f"{there} of {wanted} wanted, and {why}", strangers)

    def _patience_seconds(self, *, known: bool) -> float:
        """Return how long missing workers are counted on. After Redis was away nobody is known for a heartbeat."""
        if not known:
            return HEARD_SECONDS if self._duty.lately_away else UNKNOWN_SECONDS
        return PATIENCE_SECONDS if self._met else FIRST_PATIENCE_SECONDS

    def _why(self, wanted: int, supervisors: Sequence[Process], strangers: int, *, supervised: bool) -> str:
        """Return why workers are missing. Raise the alarm once if no worker of this configuration is going to come."""
        if strangers:
            why = f"{of_another_configuration(strangers)}: restart what `rlm doctor` names"
            self._tell(f"lacks workers: {why}", {"strangers": strangers})
            return why
        if not supervisors:
            self._look_for_the_dead()
            what = "and no supervisor lives that starts any: `rlm up` or `rlm supervisor` starts one"
            self._tell(f"wants {counted(wanted, 'worker')}, {what}", {"wanted": wanted})
        if not supervised:
            return "no supervisor is heard of"
        most = room(supervisors, self._store.hosts.idle())
        if most is not None and most < wanted:
            return f"{'the hosts take no more' if most else 'no host takes any'}: see `rlm supervisor list`"
        return "those missing are not up yet: see whether their supervisor lives, and its log"

    def _look_for_the_dead(self) -> None:
        """Raise the alarm for supervisors that died: it takes the place of the one for want of workers."""
        if not self._told and (dead := self._store.processes.missing(Role.SUPERVISOR)):
            self._told = True
            lost = unheard(self._store, dead)
            for host in lost:
                report_lost(self._store, host)
            for one in dead:
                if host_of(one) not in lost:
                    report_death(self._store, Role.SUPERVISOR, one)

    def _tell(self, what: str, counts: dict[str, float]) -> None:
        if not self._told:
            self._told = True
            facts = alarm(Alarm.NO_WORKER, "lack_workers", counts=counts, run_id=self._run_id)
            log.error("Run %s %s", self._run_id, what, extra=facts)


def _cut_off(hosts: Collection[str]) -> str:
    """Return in words that hosts are cut off, whose workers are not counted on; empty if there are none."""
    if not hosts:
        return ""
    names = " and ".join(sorted(hosts))
    several = len(hosts) > 1
    return f"host{'s' if several else ''} {names} {'reach' if several else 'reaches'} no endpoint: see `rlm doctor`"


class Gathering:
    """Counts the lanes of a run, none while its first call waits for the rest of the wanted workers."""

    def __init__(self, window_seconds: float) -> None:
        self._seconds = min(GATHER_SECONDS, GATHER_PART * window_seconds)
        self._until: float | None = None

    def lanes(self, workers: Sequence[Process], wanted: int, *, begun: bool) -> int:
        """Return how many lanes a run has; workers of a supervisor beyond those wanted are about to leave.

        `begun`: its first call is released.
        """
        if not begun and workers and len(workers) < wanted:
            now = system_clock.monotonic()
            self._until = self._until or now + self._seconds
            if now < self._until:
                return 0
        by_hand = sum(one.threads for one in workers if not one.supervisor)
        return by_hand + sum(sorted((one.threads for one in workers if one.supervisor), reverse=True)[:wanted])
