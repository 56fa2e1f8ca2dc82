"""What conducting takes: the lease, a Redis that can be trusted, and ears for signals and requests."""

from __future__ import annotations

import logging
import os
import secrets

from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, StoreError, StoreUnfitError
from rlm.core.text import capital
from rlm.ledger.fitness import require_fit
from rlm.ledger.leases import Reply, Standing
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS
from rlm.ledger.store import Store
from rlm.ledger.trouble import TOLD_SECONDS
from rlm.processes.signals import StopSignals

#: Seconds after which a standby may take the lease of a silent scheduler.
LEASE_SECONDS = 3.0
#: Minimum seconds between two renewals.
RENEW_SECONDS = 0.75
#: Seconds between two checks whether Redis is fit to keep the ledger, because its settings may be changed.
FIT_SECONDS = 2.0
#: The most requests for a run to answer at once, so that a flooded list does not delay the run.
MOST_ASKS = 100

log = logging.getLogger(__name__)


class Office:
    """One process's claim to conduct runs. `token` is 0 while another has the lease; `standing` says who, and why."""

    def __init__(self, store: Store, stop: StopSignals, *, allow_volatile: bool = False, cancels: bool = False) -> None:
        """Follow the signals of this process; `cancels`: a stop cancels the run, which was started by hand here.

        With `allow_volatile` Redis needs no append-only file.
        """
        self.store = store
        self.owner = f"{store.settings.host_name}:{os.getpid()}:{secrets.token_hex(8)}"
        self.cancels = cancels
        self.allow_volatile = allow_volatile
        self.token = 0
        self.standing: Standing | None = None
        self.unfit = ""  #: why this Redis may not be written to for now; empty if it is fit
        self.failed_at = float("-inf")  #: when Redis last failed, monotonic seconds
        self._stop = stop
        self._renewed_at = self._fit_at = self._told_until = float("-inf")

    def campaign(self) -> bool:
        """Take the lease if it is free, or extend ours; return whether we hold it."""
        now, leases = system_clock.monotonic(), self.store.leases
        if self.token and now - self._renewed_at < RENEW_SECONDS:
            return True
        led, before = self.token, self.standing
        self.standing = leases.contend(self.owner, LEASE_SECONDS)
        self.token, self._renewed_at = self.standing.token, now
        if self.token:
            if not led:
                log.info("%s conducts from now on (token %d)", self.owner, self.token, extra={"action": "take_lease"})
            self._tell_doubt()
        elif before is None or before.holder != self.standing.holder:
            told = "Scheduler %s stands by, and takes over if the one that leads ends or falls silent: %s"
            log.info(told, self.owner, self.standing.holder, extra={"action": "stand_by"})
        leases.doubted = ""  # whoever leads says so
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
        """Release the lease, if it is ours. If Redis fails it expires by itself."""
        self.token = 0
        self._renewed_at = float("-inf")
        try:
            self.store.leases.release(self.owner)
        except StoreError as error:
            log.info("The lease runs out in %g s: %s", LEASE_SECONDS, error, extra={"action": "release_lease"})

    def _tell_doubt(self) -> None:
        if why := self.store.leases.doubted:
            extra = {"action": "hold_endpoints"}
            log.warning("%s. Each endpoint is held for its longest period, once", capital(why), extra=extra)

    def check_fit(self) -> str:
        """Look from time to time whether Redis is fit; return why nothing may be sent, empty if it is."""
        now = system_clock.monotonic()
        if now - self._fit_at < FIT_SECONDS:
            return self.unfit
        self._fit_at, before, self.unfit = now, self.unfit, ""
        try:
            require_fit(self.store, allow_volatile=self.allow_volatile)
        except StoreUnfitError as error:
            self.unfit = str(error)
        if self.unfit and (self.unfit != before or now >= self._told_until):
            self._told_until = now + TOLD_SECONDS
            log.warning("Nothing is sent until Redis is fit again: %s", self.unfit, extra={"action": "unfit"})
        elif before and not self.unfit:
            log.info("Redis is fit again", extra={"action": "fit"})
        return self.unfit

    def note_outage(self) -> None:
        """Note that Redis did not answer just now."""
        self.failed_at = system_clock.monotonic()

    @property
    def lately_away(self) -> bool:
        """Whether Redis failed recently: the register may be incomplete, and a run may have stood still."""
        return system_clock.monotonic() - self.failed_at < HEARTBEAT_TTL_SECONDS

    @property
    def stopping(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._stop.graceful

    @property
    def hurried(self) -> bool:
        """Whether it has been asked a second time: calls in flight are no longer awaited."""
        return self._stop.immediate

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for a wake-up."""
        self._stop.wakeup.wait(seconds)

    def answer_requests(self, run_id: str) -> None:
        """Answer requests for a run: this one is open, unless a lane has just had it closed."""
        for _ in range(MOST_ASKS):
            if (request := self.store.schedule.next_request()) is None or not self.store.runs.is_open(run_id):
                return
            self.store.schedule.answer(request, Reply(open=run_id))
