"""What a conductor owes the outside while it works: to notice a stop, to answer who asks for a run, to be woken."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.processes.signals import StopSignals, Wakeup


#: So many asks are answered at once: who floods the list does not hold the run up.
MOST_ASKS = 100
#: So long after Redis has answered again an outage is counted as one of a moment ago, seconds.
LATELY_SECONDS = HEARTBEAT_TTL_SECONDS


class Duty:
    """Shared by the service and the run it conducts: one thread, one place to wait."""

    def __init__(
        self, store: Store, wakeup: Wakeup, stop: StopSignals, scheduler_id: str, *, cancels: bool = False
    ) -> None:
        """Take over the process's signals; `cancels`: a stop cancels the run, for it was started by hand here."""
        self._store = store
        self._wakeup = wakeup
        self._stop = stop
        self._id = scheduler_id
        self.cancels = cancels
        #: A run was to be handed over, and nobody took the lease: whoever else is known is about to stop as well.
        self.forsaken = False
        self._failed_at = float("-inf")

    def note_outage(self) -> None:
        """Note that Redis did not answer just now."""
        self._failed_at = system_clock.monotonic()

    @property
    def lately_away(self) -> bool:
        """Whether Redis was away a moment ago: who lives may not be heard of yet, and a run may have stood still."""
        return system_clock.monotonic() - self._failed_at < LATELY_SECONDS

    @property
    def stopping(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._stop.graceful

    @property
    def hurried(self) -> bool:
        """Whether it has been asked a second time: calls under way are no longer awaited."""
        return self._stop.immediate

    def wait(self, seconds: float) -> None:
        """Wait `seconds`, or until woken."""
        select.select([self._wakeup], [], [], max(0.0, seconds))
        self._wakeup.drain()

    def serve(self, run: Run) -> None:
        """Tell those who asked for a run that this one is under way."""
        for _ in range(MOST_ASKS):
            if (request := self._store.schedule.next_request()) is None:
                return
            self._store.schedule.answer(request, {"open": run.id})

    def standby(self) -> bool:
        """Tell whether another scheduler is alive that can go on with a run."""
        return not self.forsaken and any(one.id != self._id for one in self._store.processes.alive(Role.SCHEDULER))
