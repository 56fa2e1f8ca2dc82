"""The workers that a run may count on, and the alarm if some are missing and nobody starts any."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.text import counted, of_another_configuration
from rlm.ledger import Store
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Role, WorkerState
from rlm.processes.sharing import room
from scheduler.housekeeping import report_death
from scheduler.leader import Duty

#: A supervisor whose last announcement is older is not counted on, seconds.
HEARD_SECONDS = HEARTBEAT_SECONDS + 1.0
#: Seconds for which missing workers are still counted on: a dead one is replaced within a second.
PATIENCE_SECONDS = 2.0
#: The same before the first worker of a run is ready: its supervisor's template may have to load first.
FIRST_PATIENCE_SECONDS = 5.0
#: The same if no supervisor is registered.
UNKNOWN_SECONDS = 1.0

log = logging.getLogger(__name__)


class Team(msgspec.Struct, frozen=True):
    """How many workers are `ready` for a run, and their `lanes`; `ids` are all that may have calls.

    `shortage` says what is wrong, and has lasted `short_seconds`; it is empty if missing workers are on their way.
    """

    ready: int = 0
    lanes: int = 0
    ids: tuple[str, ...] = ()
    shortage: str = ""
    short_seconds: float = 0.0

    @property
    def counted_on(self) -> int | None:
        """How many workers the rest of the run will have; None if all that are wanted come."""
        return self.ready if self.shortage else None


class TeamWatch:
    """Follows the workers of one run."""

    def __init__(self, store: Store, run_id: str, duty: Duty) -> None:
        self._store = store
        self._run_id = run_id
        self._duty = duty
        self._short_since: float | None = None
        self._told = False
        self.most = 0  #: the most that were ready at a time
        self.came_up = False  #: whether any was ready, even of another configuration

    def look(self, workers: Sequence[Process], revision: str, wanted: int) -> Team:
        """Return who of the living `workers` is ready for a run of this `revision`, if `wanted` are wanted."""
        every = [one for one in workers if one.state == WorkerState.READY]
        usable = [one for one in every if one.revision == revision]
        awake = [one for one in usable if not one.sleeping]
        self.most, self.came_up = max(self.most, len(usable)), self.came_up or bool(every)
        lanes, ids = sum(one.threads for one in awake), tuple(one.id for one in workers)
        if len(awake) >= wanted:
            self._short_since = None
            return Team(len(awake), lanes, ids)
        now, strangers = system_clock.monotonic(), len(every) - len(usable)
        self._short_since = now if self._short_since is None else self._short_since
        supervisors = self._store.processes.alive(Role.SUPERVISOR)
        silences = self._store.processes.silences(Role.SUPERVISOR, [one.id for one in supervisors])
        supervised = any(silence <= HEARD_SECONDS for silence in silences)
        shortage = ""
        if now - self._short_since >= self._patience_seconds(known=bool(supervisors)):
            why = self._why(wanted, len(usable) - len(awake), supervisors, strangers, supervised=supervised)
            are = "is" if len(awake) == 1 else "are"
            there = f"{counted(len(awake), 'worker')} {are} ready" if awake else "no worker is ready"
            shortage = f"{there} of {wanted} wanted, and {why}"
        return Team(len(awake), lanes, ids, shortage, now - self._short_since)

    def _patience_seconds(self, *, known: bool) -> float:
        """Return for how many seconds missing workers are counted on; longer if Redis was away and nobody is known."""
        if not known:
            return HEARD_SECONDS if self._duty.lately_away else UNKNOWN_SECONDS
        return PATIENCE_SECONDS if self.most else FIRST_PATIENCE_SECONDS

    def _why(
        self, wanted: int, sleeping: int, supervisors: Sequence[Process], strangers: int, *, supervised: bool
    ) -> str:
        """Return why workers are missing. Raise the alarm once if no worker of this configuration will come."""
        if sleeping:
            return f"{counted(sleeping, 'worker')} can connect to no endpoint: see `rlm doctor`"
        if strangers:
            why = f"{of_another_configuration(strangers)}: restart what `rlm doctor` names"
            self._tell(f"lacks workers: {why}", {"strangers": strangers})
            return why
        if not supervisors:
            self._look_for_the_dead()
            what = "and no supervisor is alive to start any: `rlm up` or `rlm supervisor` starts one"
            self._tell(f"wants {counted(wanted, 'worker')}, {what}", {"wanted": wanted})
        if not supervised:
            return "no supervisor is heard from: `rlm up` or `rlm supervisor` starts one"
        most = room(supervisors)
        if most < wanted:
            return f"{'the hosts take no more' if most else 'no host takes any'}: see `rlm worker list`"
        return "those missing are not up yet: check whether their supervisor is alive, and its log"

    def _look_for_the_dead(self) -> None:
        """Raise the alarm for dead supervisors, instead of the one for missing workers."""
        if not self._told and (dead := self._store.processes.missing(Role.SUPERVISOR)):
            self._told = True
            for one in dead:
                report_death(self._store, Role.SUPERVISOR, one)

    def _tell(self, what: str, counts: dict[str, float]) -> None:
        if not self._told:
            self._told = True
            facts = alarm(Alarm.NO_WORKER, "lack_workers", counts=counts, run_id=self._run_id)
            log.error("Run %s %s", self._run_id, what, extra=facts)
