"""Who may conduct runs: a scheduler, or a command that conducts one run; and what a scheduler does while another leads.

A standby knows what a successor must, and closes a run that is overdue.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import Any

from actors.broker import WakingBroker
from rlm import __version__, telemetry
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, RunError, StoreError, StoreUnfitError
from rlm.core.run import Run, State, Trigger
from rlm.delivery.run_end import OverdueWatch
from rlm.ledger import Store
from rlm.ledger.control import ChangeTeller
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Role
from rlm.processes.signals import StopSignals
from scheduler.conductor import Conductor
from scheduler.housekeeping import HostWatch, Housekeeper
from scheduler.leader import BARRED, LEASE_SECONDS, Duty, Leader
from scheduler.redis_watch import RedisWatch
from scheduler.ticks import open_run

#: How long a standby waits between two looks at the lease, seconds: a part of the time a takeover takes.
STANDBY_SECONDS = 0.25
#: How often it looks which run is open, in case a wake-up was lost, seconds.
RUN_SECONDS = 4.0
#: How often it is looked whether other hosts live, where there are any, seconds.
LOOK_SECONDS = 1.0

#: How often a command asks for the lease again, seconds.
_CAMPAIGN_SECONDS = 0.2
#: How often it looks whether its supervisor is there, seconds: the run waits for that.
_ARRIVAL_SECONDS = 0.01

log = logging.getLogger(__name__)


def announce(store: Store, leader: Leader, stopped: threading.Event, *, allow_volatile: bool) -> None:
    """Announce a scheduler every few seconds until it has `stopped`, and log what operators change.

    `allow_volatile`: it trusts a Redis that keeps no append-only file, too.
    """
    process = Process(
        id=leader.owner,
        pid=os.getpid(),
        host=store.settings.host_name,
        started_at=system_clock.now(),
        revision=store.settings.revision,
        version=__version__,
        insists_on_file=not allow_volatile,
        ticks_every=store.settings.run.every_seconds,
    )
    changes, watch = ChangeTeller(store), HostWatch(store)
    said_at, others = float("-inf"), False
    while True:
        try:
            if system_clock.monotonic() - said_at >= HEARTBEAT_SECONDS:
                store.processes.announce(Role.SCHEDULER, process)
                changes.tell(aloud=bool(leader.token))
                said_at = system_clock.monotonic()
            others = watch.look(aloud=bool(leader.token))
        except StoreError as error:
            log.info("The scheduler cannot announce itself: %s", error, extra={"action": "announce"})
        if stopped.wait(LOOK_SECONDS if others else HEARTBEAT_SECONDS):
            return


class Office:
    """What it takes to conduct: a lease, trust in Redis, what is owed to others, a conductor, and who keeps house."""

    #: Whether a stop cancels the run.
    _cancels = False

    def __init__(self, store: Store, stop: StopSignals, *, allow_volatile: bool = False) -> None:
        """Conduct on `store`; with `allow_volatile` also if its Redis keeps no append-only file."""
        self._store = store
        self._leader = Leader(store.leases, store.settings.host_name)
        self._duty = Duty(store, stop, self._leader.owner, cancels=self._cancels)
        broker = WakingBroker(store.url, store.keys.dramatiq)
        self._redis = RedisWatch(store, self._leader, allow_volatile=allow_volatile)
        self._clock = self._redis.clock
        self._mender = self._redis.mender
        self._conductor = Conductor(store, broker, self._leader, self._duty, self._redis)
        self._housekeeper = Housekeeper(store, broker, self._leader)


class HandConductor(Office):
    """Conducts one run in the foreground; raises FencedError if another took the lease, StoreError if Redis fails."""

    _cancels = True
    run_id = ""  #: that `conduct` opened

    def campaign(self, seconds: float) -> None:
        """Take the lease, waiting up to `seconds` for one that a dead scheduler left.

        Call `resign` in the end, also if this raises, as it does a RunError where a living one holds the lease.
        """
        until = system_clock.monotonic() + seconds
        while not self._leader.campaign():
            if self._leader.barred:
                raise RunError(f"rlm {self._leader.newer} has conducted here: {BARRED}. Upgrade this host.")
            if system_clock.monotonic() > until or self._duty.stopping:
                holder = self._store.leases.holder()
                raise RunError(f"{holder} conducts the runs and does not answer; see `rlm doctor`.")
            self._duty.wait(_CAMPAIGN_SECONDS)
        self._mender.mend()
        self._redis.check()
        if self._redis.unfit:
            raise StoreUnfitError(self._redis.unfit)

    def await_supervisor(self, seconds: float) -> None:
        """Wait up to `seconds` for the supervisor that was just started, or a run would miss it and raise an alarm."""
        until = system_clock.monotonic() + seconds
        while not self._store.processes.alive(Role.SUPERVISOR):
            if system_clock.monotonic() > until or self._duty.stopping:
                return
            self._leader.keep()
            self._duty.wait(_ARRIVAL_SECONDS)

    def finish_open(self) -> None:
        """Finish, or close if it is overdue, a run that a dead conductor left open."""
        run = self._store.runs.current()
        if run is not None:
            log.info("Run %s was left open; it is finished first", run.id, extra={"action": "resume", "run_id": run.id})
            self._conduct(run)

    def conduct(self) -> dict[str, Any] | None:
        """Open a run now and conduct it to its record."""
        self.run_id = open_run(self._store, self._leader.token, Trigger.MANUAL, self._store.now())
        if (run := self._store.runs.current()) is None or run.id != self.run_id:
            return self._store.runs.record(self.run_id)
        return self._conduct(run)

    def _conduct(self, run: Run) -> dict[str, Any] | None:
        record = self._conductor.conduct(run)
        try:
            self._housekeeper.after_run(record)
        except FencedError as error:  # the run is closed, and whoever conducts now tidies up
            log.info("Nothing is tidied up here: %s", error, extra={"action": "tidy_up", "run_id": run.id})
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


class Standby:
    """What a scheduler that does not lead does at each of its turns."""

    def __init__(self, store: Store, redis: RedisWatch, leader: Leader, duty: Duty) -> None:
        self._store = store
        self._redis = redis
        self._leader = leader
        self._duty = duty
        ended = partial(telemetry.run_ended, store.settings)
        self._overdue = OverdueWatch(store, on_closed=ended)
        self._looked_at = float("-inf")

    @property
    def pause_seconds(self) -> float:
        """The time until its next turn."""
        return min(STANDBY_SECONDS, self._overdue.pause_seconds)

    def step(self, *, woken: bool) -> None:
        """Learn which run is open, if a wake-up may have been for that, and close one that is overdue."""
        self._redis.watch()
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
