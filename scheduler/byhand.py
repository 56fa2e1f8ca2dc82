"""A run started or ended by hand while no scheduler answers: take the lease, do its work, give the lease up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from actors.broker import ClaimCheckBroker
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, RunError, StoreError, StoreUnfitError
from rlm.core.run import State, Trigger
from rlm.ledger.processes import Role
from scheduler.conductor import Conductor
from scheduler.housekeeping import Housekeeper
from scheduler.leader import LEASE_SECONDS, Duty, Leader
from scheduler.ticks import open_run

if TYPE_CHECKING:
    from rlm.ledger import Store
    from rlm.processes.signals import StopSignals, Wakeup

log = logging.getLogger(__name__)

_CAMPAIGN_SECONDS = 0.2


class HandConductor:
    """Conducts one run in the foreground, as a scheduler would.

    Its methods raise FencedError if another took the lease over, and StoreError if Redis did not answer.
    """

    def __init__(self, store: Store, wakeup: Wakeup, stop: StopSignals, *, allow_volatile: bool = False) -> None:
        """Conduct on `store`; with `allow_volatile` also if its Redis keeps no append-only file."""
        self._store = store
        self._stop = stop
        self._leader = Leader(store.leases)
        self._duty = Duty(store, wakeup, stop, self._leader.owner, cancels=True)
        broker = ClaimCheckBroker(store.url, store.keys.dramatiq)
        self._conductor = Conductor(store, broker, self._leader, self._duty, allow_volatile=allow_volatile)
        self._mender = self._conductor.mender
        self._housekeeper = Housekeeper(store, broker, self._leader)

    def campaign(self, seconds: float) -> None:
        """Take the lease, waiting up to `seconds` for one that a dead scheduler left.

        Call `resign` in the end, also if this raises: the lease may have been taken by then.

        Raises:
            RunError: a living one holds it.
        """
        until = system_clock.monotonic() + seconds
        while not self._leader.campaign():
            if system_clock.monotonic() > until or self._stop.graceful:
                raise RunError(
                    f"{self._store.leases.holder()} conducts the runs and does not answer; see `rlm doctor`."
                )
            self._duty.wait(_CAMPAIGN_SECONDS)
        self._mender.mend()
        if unfit := self._conductor.check_redis():
            raise StoreUnfitError(unfit)

    def await_supervisor(self, seconds: float) -> None:
        """Wait up to `seconds` for the supervisor that was just started, or a run would miss it and raise an alarm."""
        until = system_clock.monotonic() + seconds
        while not self._store.processes.alive(Role.SUPERVISOR):
            if system_clock.monotonic() > until or self._stop.graceful:
                return
            self._leader.keep()
            self._duty.wait(_CAMPAIGN_SECONDS)

    def finish_open(self) -> None:
        """Finish, or close if it is overdue, a run that a dead conductor left open."""
        run = self._store.runs.current()
        if run is not None:
            log.info("Run %s was left open; it is finished first", run.id, extra={"action": "resume", "run_id": run.id})
            self._conductor.conduct(run)

    def conduct(self) -> dict[str, Any] | None:
        """Open a run now and conduct it to its record."""
        run_id = open_run(self._store, self._leader.token, Trigger.MANUAL, system_clock.now())
        run = self._store.runs.current()
        if run is None or run.id != run_id:
            return self._store.runs.record(run_id)
        record = self._conductor.conduct(run)
        try:
            self._housekeeper.after_run(record)
        except FencedError as error:  # the run is closed, and whoever conducts now tidies up
            log.info("Nothing is tidied up here: %s", error, extra={"action": "tidy_up", "run_id": run_id})
        return record

    def close_open(self, run_id: str) -> dict[str, Any] | None:
        """Close that run now, if it is open: calls under way are awaited, the rest is leftover."""
        run = self._store.runs.current()
        if run is None or run.id != run_id:
            return None
        if run.state is not State.FINISHING:
            self._store.runs.advance(self._leader.token, run.id, State.FINISHING)
        return self._conductor.finish(run)

    def resign(self) -> None:
        """Give the lease up, if it is ours. If Redis fails it runs out by itself."""
        try:
            self._leader.resign()
        except StoreError as error:
            log.info("The lease runs out in %g s: %s", LEASE_SECONDS, error, extra={"action": "release_lease"})
