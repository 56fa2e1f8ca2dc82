"""The leader: its lease, and its duties to other processes while it works."""

from __future__ import annotations

import logging
import os
import secrets

from rlm.core.clock import system_clock
from rlm.core.errors import FencedError
from rlm.core.run import Run
from rlm.ledger.leases import Leases, Reply, Standing
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role
from rlm.ledger.store import Store
from rlm.processes.signals import StopSignals

#: Seconds after which a standby may take the lease of a silent scheduler.
LEASE_SECONDS = 3.0
#: Minimum seconds between two renewals.
RENEW_SECONDS = 0.75
#: The most requests for a run to answer at once, so that a flooded list does not delay the run.
MOST_ASKS = 100
#: Seconds for which an outage counts as recent after Redis has answered again.
LATELY_SECONDS = HEARTBEAT_TTL_SECONDS

log = logging.getLogger(__name__)


class Leader:
    """One process's claim to lead. `token` is 0 while another process has the lease; `standing` says who, and why."""

    def __init__(self, leases: Leases, host: str) -> None:
        self._leases = leases
        self.owner = f"{host}:{os.getpid()}:{secrets.token_hex(8)}"
        self.token = 0
        self.standing: Standing | None = None  #: as it was told last
        self._renewed_at = float("-inf")

    def campaign(self) -> bool:
        """Take the lease if it is free, or extend ours; return whether we hold it."""
        now = system_clock.monotonic()
        if self.token and now - self._renewed_at < RENEW_SECONDS:
            return True
        led, before = self.token, self.standing
        self.standing = self._leases.contend(self.owner, LEASE_SECONDS)
        self.token, self._renewed_at = self.standing.token, now
        if not self.token:
            self._leases.doubted = ""  # whoever leads says so
            if before is None or before.holder != self.standing.holder:
                host, pid, *_ = [*self.standing.holder.split(":"), "", ""]
                told = (
                    "Scheduler %s stands by, and takes over if the one that leads ends or falls silent: host %s, pid %s"
                )
                log.info(told, self.owner, host, pid, extra={"action": "stand_by"})
        elif not led:
            log.info("%s conducts from now on (token %d)", self.owner, self.token, extra={"action": "take_lease"})
        return bool(self.token)

    def keep(self) -> None:
        """Extend the lease if that is due.

        Raises:
            FencedError: another scheduler has taken it over; stop conducting.
        """
        before = self.token
        if not self.campaign() or self.token != before:
            raise FencedError(f"{self.owner} no longer holds the conductor's lease")

    def resign(self) -> None:
        """Release the lease."""
        self.token = 0
        self._renewed_at = float("-inf")
        self._leases.release(self.owner)


class HandedOverError(Exception):
    """Raised out of a run that a standby continues, because this process is stopping."""


class Duty:
    """What a leader must do while it works: notice a stop, answer requests for a run, wait so that it can be woken."""

    def __init__(self, store: Store, stop: StopSignals, scheduler_id: str, *, cancels: bool = False) -> None:
        """Follow the signals of this process; `cancels`: a stop cancels the run, which was started by hand here."""
        self._store = store
        self._stop = stop
        self._id = scheduler_id
        self.cancels = cancels
        self.failed_at = float("-inf")  #: when Redis last failed, monotonic seconds

    def note_outage(self) -> None:
        """Note that Redis did not answer just now."""
        self.failed_at = system_clock.monotonic()

    @property
    def lately_away(self) -> bool:
        """Whether Redis failed recently: the register may be incomplete, and a run may have stood still."""
        return system_clock.monotonic() - self.failed_at < LATELY_SECONDS

    @property
    def stopping(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._stop.graceful

    @property
    def hurried(self) -> bool:
        """Whether it has been asked a second time: calls in flight are no longer awaited."""
        return self._stop.immediate

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for a wake-up; return whether one came."""
        return self._stop.wakeup.wait(seconds)

    def serve(self, run: Run) -> None:
        """Answer requests for a run: this one is open, unless a lane has just had it closed."""
        for _ in range(MOST_ASKS):
            if (request := self._store.schedule.next_request()) is None or not self._store.runs.is_open(run.id):
                return
            self._store.schedule.answer(request, Reply(open=run.id))

    def standby(self) -> bool:
        """Return whether another scheduler is alive that can continue a run."""
        return any(one.id != self._id for one in self._store.processes.alive(Role.SCHEDULER))

    def hand_over(self, run: Run) -> None:
        """Leave a run open if this process is stopping and a standby lives, which goes on with it.

        Raises:
            HandedOverError: it is left.
        """
        if self.stopping and not self.cancels and self.standby():
            raise HandedOverError(run.id)
