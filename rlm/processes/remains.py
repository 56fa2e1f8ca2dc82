"""What dead workers held, until it is free again: their events, and the messages that they had fetched."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.ledger.processes import Role

if TYPE_CHECKING:
    from rlm.ledger import Store
    from rlm.processes.child import Launcher

log = logging.getLogger(__name__)


class Remains:
    """Keeps who died until Redis has taken note of it."""

    def __init__(self, store: Store, launcher: Launcher) -> None:
        self._store = store
        self._launcher = launcher
        self._unfreed: dict[str, bool] = {}
        self._restarted: list[str] = []

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

    def _free_worker(self, worker_id: str, *, died: bool) -> None:
        taken = self._store.recovery.orphan_worker(worker_id, died=died)
        crash_point("supervisor.orphaned")
        self._launcher.forget(worker_id)
        crash_point("supervisor.recovered")
        self._store.processes.forget(Role.WORKER, worker_id)
        crash_point("supervisor.freed")
        if taken:
            log.info("%d events of worker %s are pending again", taken, worker_id, extra={"action": "free_events"})
