"""The workers that a run may count on, and the alarm if some are missing and nobody starts any."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rlm.core.clock import system_clock
from rlm.core.text import counted, of_another_configuration
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.ledger.store import Store
from rlm.processes.sharing import room, serving
from scheduler.leader import Duty

#: Seconds for which missing workers are still counted on: those that start, and successors of the dead.
PATIENCE_SECONDS = 5.0


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
        self.most = 0  #: the most that were ready at a time
        self.came_up = False  #: whether any was ready, even of another configuration

    def look(self, workers: Sequence[Process], revision: str, wanted: int) -> Team:
        """Return who of the living `workers` is ready for a run of this `revision`, if `wanted` are wanted."""
        every = [one for one in workers if one.state == WorkerState.READY]
        usable = [one for one in every if one.revision == revision]
        awake = [one for one in usable if not one.sleeping]
        self.most, self.came_up = max(self.most, len(usable)), self.came_up or bool(every)
        lanes, ids = sum(one.threads for one in awake), tuple(one.id for one in workers)
        if len(awake) >= wanted or self._duty.lately_away:  # after an outage nobody may be in the register yet
            self._short_since = None
            return Team(len(awake), lanes, ids)
        now = system_clock.monotonic()
        self._short_since = now if self._short_since is None else self._short_since
        short_seconds = now - self._short_since
        why = self._why(len(usable) - len(awake), len(every) - len(usable), wanted)
        if short_seconds < PATIENCE_SECONDS:
            return Team(len(awake), lanes, ids)
        are = "is" if len(awake) == 1 else "are"
        there = f"{counted(len(awake), 'worker')} {are} ready" if awake else "no worker is ready"
        shortage = f"{there} of {wanted} wanted, and {why}"
        return Team(len(awake), lanes, ids, shortage, short_seconds)

    def _why(self, sleeping: int, strangers: int, wanted: int) -> str:
        """Return why workers are missing."""
        if sleeping:
            return f"{counted(sleeping, 'worker')} can connect to no endpoint: see `rlm doctor`"
        if strangers:
            return f"{of_another_configuration(strangers)}: restart what `rlm doctor` names"
        supervisors = self._store.processes.alive(Role.SUPERVISOR)
        if not supervisors:
            return "no supervisor is heard from: `rlm up` or `rlm supervisor` starts one"
        if (most := room(serving(supervisors, self._store.leases.revision()))) < wanted:
            return f"{'the hosts take no more' if most else 'no host takes any'}: see `rlm worker list`"
        return "those missing are not up yet: check whether their supervisor is alive, and its log"
