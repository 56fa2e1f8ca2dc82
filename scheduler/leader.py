"""The scheduler that leads: its lease, and what it owes others while it works."""

from __future__ import annotations

import logging
import os
import secrets
import select
import socket
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.errors import FencedError
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.ledger.leases import Leases
    from rlm.processes.signals import StopSignals, Wakeup

#: Seconds after which the lease of a scheduler that fell silent may be taken by a standby. An open run is to go on, or
#: be closed if it is overdue, within 5 s of its conductor's death. At the worst the lease had just been prolonged, and
#: the standby looked (service.IDLE_SECONDS) just before it ran out: 3.25 s, which leaves 1.75 s to close the run.
LEASE_SECONDS = 3.0
#: How often the holder prolongs it, seconds. A plan or Redis may so hold it up for 2.5 s without losing it.
RENEW_SECONDS = 0.5
#: The most requests for a run that are answered at once: a flooded list does not hold the run up.
MOST_ASKS = 100
#: How long after Redis has answered again an outage counts as recent, seconds.
LATELY_SECONDS = HEARTBEAT_TTL_SECONDS

log = logging.getLogger(__name__)


class Leader:
    """One process's claim to lead. `token` is 0 while another holds the lease, the `holder`."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.token = 0
        self.holder = ""
        self._renewed_at = float("-inf")

    def campaign(self) -> bool:
        """Take the lease if it is free, prolong it if it is ours; return whether we hold it."""
        now = system_clock.monotonic()
        if self.token and now - self._renewed_at < RENEW_SECONDS:
            return True
        before = self.token
        self.token, self.holder = self._leases.contend(self.owner, LEASE_SECONDS)
        self._renewed_at = now
        if self.token and not before:
            log.info("%s conducts from now on (token %d)", self.owner, self.token, extra={"action": "take_lease"})
        return bool(self.token)

    def keep(self) -> None:
        """Prolong the lease when it is time.

        Raises:
            FencedError: another scheduler took it over meanwhile; stop conducting.
        """
        before = self.token
        if not self.campaign() or self.token != before:
            raise FencedError(f"{self.owner} no longer holds the conductor's lease")

    def resign(self) -> None:
        """Give the lease up."""
        self.token = 0
        self._renewed_at = float("-inf")
        self._leases.release(self.owner)


class Duty:
    """What a leader owes others while it works: to notice a stop, to answer requests for a run, to be woken.

    The service and the run that it conducts share one: one thread, one place to wait.
    """

    def __init__(
        self, store: Store, wakeup: Wakeup, stop: StopSignals, scheduler_id: str, *, cancels: bool = False
    ) -> None:
        """Heed the signals of this process; `cancels`: a stop cancels the run, which was started by hand here."""
        self._store = store
        self._wakeup = wakeup
        self._stop = stop
        self._id = scheduler_id
        self.cancels = cancels
        #: Nobody took the lease when a run was to be handed over: any other scheduler is about to stop as well.
        self.forsaken = False
        self._failed_at = float("-inf")

    def note_outage(self) -> None:
        """Note that Redis did not answer just now."""
        self._failed_at = system_clock.monotonic()

    @property
    def lately_away(self) -> bool:
        """Whether Redis was away recently: the living may not be known yet, and a run may have stood still."""
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
        """Answer those who asked for a run that this one is under way."""
        for _ in range(MOST_ASKS):
            if (request := self._store.runs.next_request()) is None:
                return
            self._store.runs.answer(request, {"open": run.id})

    def standby(self) -> bool:
        """Return whether another scheduler is alive that can go on with a run."""
        return not self.forsaken and any(one.id != self._id for one in self._store.processes.alive(Role.SCHEDULER))
