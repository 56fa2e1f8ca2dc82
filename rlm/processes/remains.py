"""What dead workers held, until it is free again: their events, and the messages that they had fetched."""

from __future__ import annotations

import logging

from rlm.core.alarms import Alarm, alarm
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.ledger import Store
from rlm.ledger.processes import Process, Role
from rlm.processes.alive import is_dead
from rlm.processes.child import Launcher

log = logging.getLogger(__name__)


class Remains:
    """Keeps who died until Redis has taken note of it."""

    def __init__(self, store: Store, launcher: Launcher) -> None:
        self._store = store
        self._launcher = launcher
        self._unfreed: dict[str, bool] = {}
        self._restarted: list[str] = []
        #: Workers that were killed with a supervisor that is succeeded here, by its id.
        self._bereft: dict[str, set[str]] = {}

    def add(self, worker_id: str, *, died: bool) -> None:
        """Note a dead worker; one that was ended because all were to end at once has not `died` of what it had."""
        self._unfreed[worker_id] = died

    def count(self, worker_id: str) -> None:
        """Note that a worker ended unexpectedly."""
        self._restarted.append(worker_id)

    def free(self) -> None:
        """Free what dead workers held: their leases, and what they had fetched. Tried again until Redis has it."""
        if self._restarted:
            self._store.processes.count_restarts(self._restarted)
            self._restarted = []
        for worker_id, died in list(self._unfreed.items()):
            self._free_worker(worker_id, died=died)
            del self._unfreed[worker_id]

    def free_quietly(self) -> None:
        """Do the same, or leave it for later where Redis fails."""
        try:
            self.free()
        except StoreError as error:
            log.info("What dead workers held cannot be freed yet: %s", error, extra={"action": "free_events"})

    def succeed(self, own: Process) -> None:
        """Free what workers held that were killed with their supervisor, another than `own` on the same host.

        Both are off the register then. Else they would keep their places and its share until they were silent for so
        long that a host is lost.
        """
        processes = self._store.processes
        dead = {one.id: one for one in processes.alive(Role.SUPERVISOR) if one.id != own.id and _died_here(one, own)}
        workers = [one for one in processes.alive(Role.WORKER) if one.supervisor in dead and _died_here(one, own)]
        for worker in workers:
            self._bereft.setdefault(worker.supervisor, set()).add(worker.id)
            self.add(worker.id, died=True)
        self.free()
        for one in dead.values():
            processes.sign_off(Role.SUPERVISOR, one)
            told = "Supervisor %s was killed, and %d of its workers are dead; what they held is pending again"
            extra = alarm(Alarm.PROCESS_DIED, "succeed")
            log.warning(told, one.id, len(self._bereft.pop(one.id, ())), extra=extra)

    def _free_worker(self, worker_id: str, *, died: bool) -> None:
        taken = self._store.recovery.orphan_worker(worker_id, died=died)
        crash_point("supervisor.orphaned")
        self._launcher.forget(worker_id)
        crash_point("supervisor.recovered")
        self._store.processes.forget(Role.WORKER, worker_id)
        crash_point("supervisor.freed")
        if taken:
            log.info("%d events of worker %s are pending again", taken, worker_id, extra={"action": "free_events"})


def _died_here(process: Process, own: Process) -> bool:
    """Return whether a process is dead whose number counts where that of `own` does, which calls this."""
    return bool(own.pids) and process.pids == own.pids and is_dead(process.pid)
