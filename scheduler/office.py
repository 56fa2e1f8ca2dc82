"""Who may conduct runs: a scheduler, or a command that conducts one run."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import replace

from rlm.admin.attendance import kept_apart, other_configurations
from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.documents import Record
from rlm.core.errors import FencedError, RunError, StoreError, StoreUnfitError
from rlm.core.run import Run, Trigger
from rlm.core.text import capital
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Role
from rlm.ledger.store import Store
from rlm.processes.alive import entry_of
from rlm.processes.signals import StopSignals
from scheduler.conductor import Conductor
from scheduler.housekeeping import Housekeeper
from scheduler.leader import LEASE_SECONDS, Duty, Leader
from scheduler.looks import Desk
from scheduler.redis_watch import RedisWatch
from scheduler.ticks import open_run

#: Seconds between two attempts of a command to take the lease.
_CAMPAIGN_SECONDS = 0.2
#: Seconds between two looks whether its supervisor has arrived: the run waits for it.
_ARRIVAL_SECONDS = 0.01

log = logging.getLogger(__name__)


def announce(store: Store, leader: Leader, stopped: threading.Event, *, allow_volatile: bool) -> None:
    """Announce a scheduler every few seconds until it has `stopped`.

    `allow_volatile`: it accepts a Redis without an append-only file.
    """
    process = replace(
        entry_of(store.settings, leader.owner, os.getpid(), system_clock.now()),
        insists_on_file=not allow_volatile,
        ticks_every=store.settings.run.every_seconds,
    )
    configurations: dict[str, str] = {}
    while True:
        try:
            store.processes.announce(Role.SCHEDULER, process)
            if leader.token:
                configurations = _tell_others(store, process, configurations)
        except StoreError as error:
            log.info("The scheduler cannot announce itself: %s", error, extra={"action": "announce"})
        if stopped.wait(HEARTBEAT_SECONDS):
            return


def _tell_others(store: Store, leads: Process, before: Mapping[str, str]) -> dict[str, str]:
    """Raise the alarm for configurations that are in use beside this one, and were not `before`; return all."""
    found = other_configurations(leads, [one for role in Role for one in store.processes.alive(role)])
    for subject in found.keys() - before.keys():
        log.warning("%s", found[subject], extra=alarm(Alarm.OTHER_CONFIGURATION, "announce"))
    return found


class Office:
    """What conducting needs: the lease, a watch on Redis, the duties to others, and a housekeeper."""

    #: Whether a stop cancels the run.
    _cancels = False

    def __init__(self, store: Store, stop: StopSignals, *, allow_volatile: bool = False) -> None:
        """Conduct on `store`; with `allow_volatile` also if its Redis has no append-only file."""
        self._store = store
        self._leader = Leader(store.leases, store.settings.host_name)
        self._duty = Duty(store, stop, self._leader.owner, cancels=self._cancels)
        self._redis = RedisWatch(store, allow_volatile=allow_volatile)
        self._desk = Desk(store, self._leader, self._duty, self._redis)
        self._housekeeper = Housekeeper(store, self._leader)


class HandConductor(Office):
    """Conducts one run in the foreground; raises FencedError if another took the lease, StoreError if Redis fails."""

    _cancels = True
    run_id = ""  #: the run that `conduct` opened

    def leads(self) -> bool:
        """Return whether it has the lease, which it takes if it is free, or is asked to stop."""
        return self._duty.stopping or self._leader.campaign()

    def campaign(self, seconds: float) -> None:
        """Take the lease; wait up to `seconds` for one that a dead scheduler left.

        Raise a RunError if a living scheduler keeps the lease. Call `resign` at the end even then.
        """
        until = system_clock.monotonic() + seconds
        while not self._leader.campaign():
            if system_clock.monotonic() > until or self._duty.stopping:
                standing = self._leader.standing
                if standing and (apart := kept_apart(self._store, standing)):
                    raise RunError(f"{capital(apart)}; see `rlm doctor`.")
                holder = self._store.leases.holder()
                raise RunError(f"{holder} conducts the runs and does not answer; see `rlm doctor`.")
            self._duty.wait(_CAMPAIGN_SECONDS)
        self._redis.check()
        if self._redis.unfit:
            raise StoreUnfitError(self._redis.unfit)

    def await_supervisor(self, seconds: float) -> None:
        """Wait up to `seconds` for the supervisor that was just started; without it the run would raise an alarm."""
        until = system_clock.monotonic() + seconds
        while not self._store.processes.alive(Role.SUPERVISOR):
            if system_clock.monotonic() > until or self._duty.stopping:
                return
            self._leader.keep()
            self._duty.wait(_ARRIVAL_SECONDS)

    def finish_open(self) -> None:
        """Finish a run that a dead conductor left open; close it if it is overdue."""
        run = self._store.runs.current()
        if run is not None:
            log.info("Run %s was left open; it is finished first", run.id, extra={"action": "resume", "run_id": run.id})
            self._conduct(run)

    def conduct(self) -> Record | None:
        """Open a run now and conduct it to its record; return the record."""
        self.run_id = open_run(self._store, self._leader.token, Trigger.MANUAL, self._store.now())
        if (run := self._store.runs.current()) is None or run.id != self.run_id:
            return self._store.runs.record(self.run_id)
        return self._conduct(run)

    def _conduct(self, run: Run) -> Record | None:
        conductor = Conductor(self._desk, run)
        record = conductor.conduct()
        try:
            self._housekeeper.after_run(record if conductor.has_closed else None)
        except FencedError as error:  # the run is closed, and the new conductor tidies up
            log.info("Nothing is cleaned up here: %s", error, extra={"action": "tidy_up", "run_id": run.id})
        return record

    def close_open(self, run_id: str) -> Record | None:
        """Close that run, which was cancelled, if it is open: calls under way are awaited, the rest is left over."""
        run = self._store.runs.current()
        return Conductor(self._desk, run).await_end() if run and run.id == run_id else None

    def resign(self) -> None:
        """Release the lease, if it is ours. If Redis fails it expires by itself."""
        try:
            self._leader.resign()
        except StoreError as error:
            log.info("The lease runs out in %g s: %s", LEASE_SECONDS, error, extra={"action": "release_lease"})
