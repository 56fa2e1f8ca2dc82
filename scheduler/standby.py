"""What a scheduler does while another one leads: it knows what a successor must, and closes a run that is overdue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm import telemetry
from rlm.core.clock import system_clock
from rlm.delivery.overdue import OverdueWatch
from scheduler.housekeeping import look_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.core.run import Run
    from rlm.ledger import Store
    from scheduler.conductor import Conductor
    from scheduler.leader import Duty, Leader

#: How long a standby waits between two looks at the lease, seconds: a part of the time a takeover takes.
STANDBY_SECONDS = 0.25
#: How often it looks which run is open, in case a wake-up was lost, seconds.
RUN_SECONDS = 4.0


class Standby:
    """What a scheduler that does not lead does at each of its turns."""

    def __init__(self, store: Store, conductor: Conductor, leader: Leader, duty: Duty) -> None:
        self._store = store
        self._conductor = conductor
        self._leader = leader
        self._duty = duty
        self._overdue = OverdueWatch(store, on_closed=self._see_to_end)
        self._looked_at = float("-inf")

    @property
    def pause_seconds(self) -> float:
        """The time until its next turn."""
        return min(STANDBY_SECONDS, self._overdue.pause_seconds)

    def step(self, *, woken: bool) -> None:
        """Learn which run is open, if a wake-up may have been for that, and close one that is overdue."""
        self._conductor.watch()
        if self._leader.barred:
            return  # what a newer version has opened this one may not close
        now = system_clock.monotonic()
        if woken or now - self._looked_at >= RUN_SECONDS:
            self._looked_at = now
            run, now_us = self._store.runs.current_at()
            if run is not None:
                self._overdue.expect(run.id, now + run.left_seconds(now_us))
        self._overdue.note_outage(self._duty.failed_at)
        self._overdue.look()

    def _see_to_end(self, run: Run, record: Mapping[str, Any]) -> None:
        telemetry.run_ended(self._store.settings, run, record)
        look_over(self._store, record)
