"""Conducts one run in the foreground, for a command: `rlm start --wait`, and `rlm cancel` where nobody conducts."""

from __future__ import annotations

import logging

from rlm.admin.attendance import kept_apart
from rlm.admin.watch import Watch
from rlm.core.clock import system_clock
from rlm.core.documents import Record
from rlm.core.errors import RunError, StoreUnfitError
from rlm.core.run import Trigger
from rlm.core.text import capital
from rlm.ledger.store import Store
from rlm.processes.signals import StopSignals
from scheduler.conductor import Conductor, open_run
from scheduler.housekeeping import Housekeeper
from scheduler.office import Office

#: Seconds between two attempts of a command to take the lease.
CAMPAIGN_SECONDS = 0.2

log = logging.getLogger(__name__)


class HandConductor:
    """Conducts one run; raises FencedError if another took the lease, StoreError if Redis fails."""

    run_id = ""  #: the run that `conduct` opened

    def __init__(self, store: Store, stop: StopSignals, *, allow_volatile: bool = False) -> None:
        """Conduct on `store`; with `allow_volatile` also if its Redis has no append-only file."""
        self.office = Office(store, stop, allow_volatile=allow_volatile, cancels=True)
        self._watch = Watch(store, lambda _there: bool(self.office.token))

    def leads(self) -> bool:
        """Return whether it has the lease, which it takes if it is free, or is asked to stop."""
        return self.office.stopping or self.office.campaign()

    def campaign(self, seconds: float) -> None:
        """Take the lease; wait up to `seconds` for one that a dead scheduler left.

        Raise a RunError if a living scheduler keeps the lease. Call `resign` at the end even then.
        """
        until = system_clock.monotonic() + seconds
        while not self.office.campaign():
            if system_clock.monotonic() > until or self.office.stopping:
                standing, store = self.office.standing, self.office.store
                if standing and (apart := kept_apart(store, standing)):
                    raise RunError(f"{capital(apart)}; see `rlm doctor`.")
                raise RunError(f"{store.leases.holder()} conducts the runs and does not answer; see `rlm doctor`.")
            self.office.wait(CAMPAIGN_SECONDS)
        if unfit := self.office.check_fit():
            raise StoreUnfitError(unfit)
        self._watch.start()

    def finish_open(self) -> None:
        """Finish a run that a dead conductor left open; close it if it is overdue."""
        if run := self.office.store.runs.current():
            log.info("Run %s was left open; it is finished first", run.id, extra={"action": "resume", "run_id": run.id})
            Conductor(self.office, run).conduct()

    def conduct(self) -> Record | None:
        """Open a run now and conduct it to its record; return the record."""
        store = self.office.store
        self.run_id = open_run(store, self.office.token, Trigger.MANUAL, store.now())
        if (run := store.runs.current()) and run.id == self.run_id:
            Conductor(self.office, run).conduct()
            Housekeeper(self.office).step()
        return store.runs.record(self.run_id)

    def close_open(self, run_id: str) -> None:
        """Close that run, which was cancelled, if it is open: calls under way are awaited, the rest is left over."""
        if (run := self.office.store.runs.current()) and run.id == run_id:
            Conductor(self.office, run).await_end()

    def resign(self) -> None:
        """Release the lease, if it is ours."""
        self._watch.stop()
        self.office.resign()
