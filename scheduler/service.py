"""The scheduler process: APScheduler runs the job at each tick, the lease decides who leads."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from msgspec.structs import replace

from rlm import __version__, telemetry
from rlm.core.clock import isoformat, system_clock
from rlm.core.errors import FencedError, StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, Trigger, new_run
from rlm.ledger.processes import HEARTBEAT_SECONDS, Role
from rlm.ledger.store import Store
from rlm.ledger.waker import Outage, Waker
from rlm.processes.sharing import entry_of
from rlm.processes.signals import StopSignals
from scheduler.conductor import Conductor
from scheduler.housekeeping import Housekeeper
from scheduler.office import Office

#: Seconds between two turns of an idle leader, and of a standby, which tries to take the lease.
IDLE_SECONDS = 1.5
STANDBY_SECONDS = 0.25
#: Seconds after a tick in which APScheduler calls its job, unless the clock of this host is wrong: then an idle leader
#: serves it.
JOB_SECONDS = 0.1
#: Pause after a failure of Redis, seconds.
AWAY_SECONDS = 0.5
#: How far two schedulers may disagree about the clock of Redis, seconds: no tick is served twice.
CLOCKS_SECONDS = 5.0

log = logging.getLogger(__name__)


def start_clock(every_seconds: float, redis_now: Callable[[], float], job: Callable[[], None]) -> BackgroundScheduler:
    """Start APScheduler: it calls `job` at multiples of a period by the clock of Redis, late rather than never."""
    first = datetime.now(UTC) + timedelta(seconds=every_seconds - redis_now() % every_seconds)
    clock = BackgroundScheduler(timezone=UTC)
    options = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1, "next_run_time": first}
    clock.add_job(job, "interval", seconds=every_seconds, id="tick", **options)
    clock.start()
    return clock


class SchedulerService:
    """Runs until it is told to stop. Ticks and requests start runs; a run left open by another is finished first.

    APScheduler calls the job at each tick. In between the main thread does, which keeps the lease and takes requests,
    ticks that passed while a run was open, and those for which APScheduler is late because the clock of this host was
    set. Only one of the two works at a time.
    """

    def __init__(self, store: Store, stop: StopSignals, *, allow_volatile: bool = False) -> None:
        """Schedule on `store`; with `allow_volatile` also if its Redis has no append-only file."""
        self._store = store
        self._office = Office(store, stop, allow_volatile=allow_volatile)
        self._housekeeper = Housekeeper(self._office)
        self._working = threading.Lock()
        self._stopped = threading.Event()
        self._outage = Outage(log, "schedule")
        self._in_office = 0  #: the token of the lease with which this scheduler took over
        self._led_at: float | None = None  #: when it first led, by the clock of Redis

    def job(self) -> None:
        """Serve what is due: conduct (drain, plan, scale, wait for the end) one run after another; then keep house."""
        with self._work():
            has_ended = False
            while (run := self._next_run()) or self._keep_house(has_ended=has_ended):
                if run:
                    Conductor(self._office, run).conduct()
                    crash_point("run.conducted")
                has_ended = bool(run)

    def run(self) -> None:
        """Schedule until a signal; then release the lease. An open run goes on: lanes and a standby see to it."""
        store, office, every = self._store, self._office, self._store.settings.run.every_seconds
        waker = Waker(store.url, store.keys.wake("scheduler"), office.stop.wake)
        clock = start_clock(every, store.clock.now, self.job)
        waker.start()
        announcer = threading.Thread(target=self._announce, name="announce", daemon=True)
        announcer.start()
        office.watch.start()
        told = "Scheduler %s (rlm %s, pid %d) starts a run every %g s"
        log.info(told, office.owner, __version__, os.getpid(), every, extra={"action": "start_scheduler"})
        try:
            while not office.stop.graceful:
                self.job()
                if not office.stop.graceful:
                    idle = min(IDLE_SECONDS, every - store.clock.now() % every + JOB_SECONDS)
                    office.stop.wait(idle if office.token else STANDBY_SECONDS)
        finally:
            self._stopped.set()
            announcer.join()
            with self._working:
                self._office.resign()
            clock.shutdown(wait=False)
            waker.stop()
            log.info("Scheduler %s has stopped", office.owner, extra={"action": "stop_scheduler"})

    @contextmanager
    def _work(self) -> Iterator[None]:
        """Work while the other thread does not; wait a while if Redis fails. If the lease is lost, stand by."""
        with self._working:
            try:
                with self._store.guarded():  # no content of Redis may end the scheduler
                    yield
            except FencedError as error:
                self._office.token = 0
                log.warning("This scheduler does not conduct any more: %s", error, extra={"action": "stand_by"})
            except StoreError as error:
                self._outage.tell(error, "no run is started meanwhile")
                self._office.stop.wait(AWAY_SECONDS)
            else:
                self._outage.over()

    def _next_run(self) -> Run | None:
        """Return the run to conduct now, as the leader; None if there is none."""
        if self._office.stop.graceful or not self._office.campaign():
            return None
        if run := self._store.runs.current():  # left open by another scheduler, or by a failure of Redis
            return run
        if self._office.token != self._in_office:  # so that a changed file is in force before the next run
            self._store.rules.publish_limits(self._office.token)
            self._in_office = self._office.token
        if self._office.check_fit():
            return None
        if request := self._store.schedule.next_request():
            crash_point("request.seen")
            opening = Trigger.MANUAL, self._store.now()
        elif (due := self._due_tick()) is not None:
            opening = Trigger.SCHEDULE, due
        else:
            return None
        run = new_run(*opening, self._store.settings.run.window_seconds, self._store.settings.revision)
        self._store.runs.open(self._office.token, run, self._store.ledger.types(), request or "")  # this notes the tick
        crash_point("run.opened")
        return self._store.runs.current()

    def _due_tick(self) -> float | None:
        """Return the tick that is due, if anything waits; without work note it.

        A noted tick was served, whichever process dies; after a StoreError it is served again.
        """
        store, run = self._store, self._store.settings.run
        now = store.clock.now()
        self._led_at = now if self._led_at is None else self._led_at
        due, last = now // run.every_seconds * run.every_seconds, store.leases.read().ticked_at
        last = self._led_at if last is None else last  # in a new installation the next tick is the first
        # If the last one is much later, the clock of Redis was set back, and ticks are served again.
        if due <= last <= now + CLOCKS_SECONDS:
            return None
        is_over = now > due + run.window_seconds  # its run would be over when it opens
        if is_over or due - last > 1.5 * run.every_seconds:
            told = "Ticks were missed since %s: no scheduler conducted, Redis was away, or a run was open"
            log.warning(told, isoformat(last), extra={"action": "miss_ticks"})
        crash_point("tick.due")
        if not is_over:
            telemetry.tick(store.settings, due)
            left_over = store.ledger.count(store.ledger.types()).values()
            if any(store.intake.lengths()) or any(count.unsettled for count in left_over):
                return due
            telemetry.tick(store.settings, due, ok=True, seconds=now - due)
        store.schedule.note_tick(due)
        return None

    def _keep_house(self, *, has_ended: bool) -> bool:
        """Do a step between runs, as the leader; return whether there is more. `has_ended`: a run has just."""
        may = self._office.token and not self._office.stop.graceful
        return bool(may and self._housekeeper.step(inspects=has_ended))

    def _announce(self) -> None:
        """Announce this scheduler every few seconds."""
        store, office = self._store, self._office
        process = replace(
            entry_of(store.settings, office.owner, os.getpid(), system_clock.now()),
            insists_on_file=not office.allow_volatile,
            ticks_every=store.settings.run.every_seconds,
        )
        pause = 0.0
        while not self._stopped.wait(pause):
            try:
                store.processes.announce(Role.SCHEDULER, replace(process, trouble=store.letters.trouble))
                pause = HEARTBEAT_SECONDS
            except StoreError as error:
                log.debug("The scheduler cannot announce itself: %s", error, extra={"action": "announce"})
                pause = AWAY_SECONDS  # it is missed as soon as Redis answers again
