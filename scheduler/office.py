"""What conducting takes: the lease, a Redis that can be trusted, and ears for signals and requests."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from rlm.admin.conditions import kept_apart
from rlm.admin.text import capital
from rlm.admin.watch import Watch
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, RunError, StoreError, StoreUnfitError
from rlm.ledger.connect import text
from rlm.ledger.leases import Reply, Standing
from rlm.ledger.processes import Role
from rlm.ledger.store import Store
from rlm.processes.signals import StopSignals

#: Seconds between two attempts of a command to take the lease.
CAMPAIGN_SECONDS = 0.2
#: Seconds after which a standby may take the lease of a silent scheduler; where Redis is far away as many answers of it
#: as a look and its pause may take, but not more than the longest.
LEASE_SECONDS, LEASE_ANSWERS, LONGEST_LEASE_SECONDS = 3.0, 120, 30.0
#: Minimum seconds between two renewals.
RENEW_SECONDS = 0.75
#: Seconds between two checks whether Redis is fit to keep the ledger, because its settings may be changed.
FIT_SECONDS = 2.0

log = logging.getLogger(__name__)


class Office:
    """One process's claim to conduct runs. `token` is 0 while another has the lease; `standing` says who, and why."""

    def __init__(self, store: Store, stop: StopSignals, *, allow_volatile: bool = False, cancels: bool = False) -> None:
        """Follow the signals of this process; `cancels`: a stop cancels the run, which was started by hand here.

        With `allow_volatile` Redis needs no append-only file.
        """
        self.store = store
        self.owner = f"{store.settings.host_name}:{os.getpid()}:{os.urandom(8).hex()}"
        self.cancels = cancels
        self.allow_volatile = allow_volatile
        self.token = 0
        self.standing: Standing | None = None
        self.short_since = float("inf")  #: since when workers are missing that a run wants, monotonic seconds
        self.unfit = ""  #: why this Redis may not be written to for now; empty if it is fit
        self.watch = Watch(store, lambda: bool(self.token))
        self.stop = stop
        self._renewed_at = self._fit_at = float("-inf")
        self._lease_seconds, self._answer_seconds = LEASE_SECONDS, float("inf")

    def campaign(self) -> bool:
        """Take the lease if it is free, or extend ours; return whether we hold it."""
        now = system_clock.monotonic()
        if self.token and now - self._renewed_at < RENEW_SECONDS and not self.store.clock.doubts[1]:
            return True
        led, before = self.token, self.standing
        # Another's lease never lasts longer than what is asked for, so who stands by asks for the longest.
        self.standing = self._contend(self._lease_seconds if led else LONGEST_LEASE_SECONDS)
        self.token, self._renewed_at = self.standing.token, now
        if self.token:
            if not led:
                log.info("%s conducts from now on (token %d)", self.owner, self.token, extra={"action": "take_lease"})
                self._contend(self._lease_seconds)
            if self.standing.why:
                told = "%s. Each endpoint is held for its longest period, once"
                log.warning(told, capital(self.standing.why), extra={"action": "hold_endpoints"})
        elif before is None or before.holder != self.standing.holder:
            why = kept_apart(self.store, self.standing) or f"{self.standing.holder} conducts"
            log.info("Scheduler %s stands by: %s", self.owner, why, extra={"action": "stand_by"})
        return bool(self.token)

    def _contend(self, seconds: float) -> Standing:
        """Ask for the lease; note for how long to ask next."""
        asked_at = system_clock.monotonic()
        standing = self.store.leases.contend(self.owner, seconds)
        # One late answer makes nothing of a Redis nearby, and another scheduler is not to wait for so long.
        before, self._answer_seconds = self._answer_seconds, system_clock.monotonic() - asked_at
        slow_seconds = LEASE_ANSWERS * min(before, self._answer_seconds)
        self._lease_seconds = min(max(LEASE_SECONDS, slow_seconds), LONGEST_LEASE_SECONDS)
        return standing

    def take(self, seconds: float) -> None:
        """Take the lease for a command; wait up to `seconds` for one that a dead scheduler left. Then watch.

        Raises:
            RunError: a living scheduler keeps it, or this one may not lead.
            StoreUnfitError: it has the lease, but nothing may be sent.
        """
        until = system_clock.monotonic() + seconds
        while not self.campaign():
            if system_clock.monotonic() > until or self.stop.graceful:
                apart = self.standing and kept_apart(self.store, self.standing)
                why = apart or f"{self.store.leases.read().holder} conducts the runs and does not answer"
                raise RunError(f"{capital(why)}; see `rlm doctor`.")
            self.stop.wait(CAMPAIGN_SECONDS)
        if unfit := self.check_fit():
            raise StoreUnfitError(unfit)
        self.watch.start()

    def keep(self) -> None:
        """Extend the lease if that is due.

        Raises:
            FencedError: another scheduler has taken it over; stop conducting.
        """
        before = self.token
        if not self.campaign() or self.token != before:
            raise FencedError(f"{self.owner} no longer holds the conductor's lease")

    def resign(self) -> None:
        """Release the lease, if it is ours, and sign off. If Redis fails it expires by itself."""
        self.watch.stop()
        self.token = 0
        try:
            self.store.processes.forget(Role.SCHEDULER, self.owner)
            self.store.leases.release(self.owner)
            self.store.processes.wake("scheduler")
        except StoreError as error:
            log.info("The lease runs out in %.0f s: %s", self._lease_seconds, error, extra={"action": "release_lease"})

    def check_fit(self) -> str:
        """Look from time to time whether Redis is fit; return why nothing may be sent, empty if it is."""
        if (now := system_clock.monotonic()) >= self._fit_at + FIT_SECONDS:
            try:
                self.store.require_fit(allow_volatile=self.allow_volatile)
                self.unfit = ""
            except StoreUnfitError as error:
                self.unfit = str(error)
            self._fit_at = now
        return self.unfit

    def answer_requests(self, run_id: str, requests: Mapping[bytes, bytes]) -> None:
        """Answer requests for a run: this one is open, unless a lane has just had it closed. A flood of them waits."""
        for request in [name for name, reply in requests.items() if not reply][:100]:
            if self.store.runs.is_open(run_id):
                self.store.schedule.answer(text(request), Reply(open=run_id))
