"""Which workers are frozen: those that fell silent, and those that were told to stop and do not."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from rlm.core.clock import system_clock
from rlm.ledger.processes import Processes, Role, WorkerState
from rlm.processes.child import BOOT_SECONDS, LOOK_SECONDS, SILENT_SECONDS, Child

log = logging.getLogger(__name__)


class FrozenWatch:
    """Looks at the workers of a supervisor, now and then, and kills the frozen: they are reaped as the dead are."""

    def __init__(self, processes: Processes, children: Mapping[str, Child], grace_seconds: float) -> None:
        self._processes = processes
        self._children = children
        self._grace_seconds = grace_seconds
        self._looked_at = float("-inf")
        self._silent_at = float("-inf")  #: none of those that have come up can be silent before

    def look(self) -> None:
        """Kill those that do not stop; and the frozen, if it is time to look."""
        now = system_clock.monotonic()
        for child in self._children.values():
            if child.stopping and not child.killed and now > child.told_at + self._grace_seconds:
                end_at_once(child)
        calm = now < self._silent_at and all(child.ready for child in self._children.values())
        if calm or now < self._looked_at + LOOK_SECONDS:
            return
        self._note_ready()
        judged = [one for one in self._children.values() if _is_judged(one, now)]
        heard = self._processes.silences_here(Role.WORKER, [one.worker_id for one in judged])
        self._looked_at, self._silent_at = now, now + SILENT_SECONDS - max(heard, default=0.0)
        for child, silent_seconds in zip(judged, heard, strict=True):
            if child.look(silent_seconds):
                log.warning("Worker %s is frozen and is ended", child.worker_id, extra={"action": "kill_worker"})
                child.end_frozen()

    def forgive(self) -> None:
        """Begin to count anew: nobody could be heard."""
        for child in self._children.values():
            child.silent_looks = 0

    def _note_ready(self) -> None:
        """Note who of those that were coming up has come up."""
        if all(child.ready for child in self._children.values()):
            return
        for worker in self._processes.alive(Role.WORKER):
            if worker.id in self._children and worker.state != WorkerState.STARTING:
                self._children[worker.id].ready = True


def _is_judged(child: Child, now: float) -> bool:
    """Return whether a silent worker is frozen: it is not coming up, leaving, or about to die."""
    return not child.stopping and not child.frozen and (child.ready or now > child.spawned_at + BOOT_SECONDS)


def end_at_once(child: Child) -> None:
    """Kill a worker that was told to stop."""
    log.warning("Worker %s is ended at once", child.worker_id, extra={"action": "kill_worker"})
    child.kill()
