"""The scheduler process: APScheduler runs the job at each tick, the lease decides who leads."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from apscheduler.schedulers.background import BackgroundScheduler

from rlm import __version__
from rlm.admin.attendance import kept_apart
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, Trigger
from rlm.core.text import capital
from rlm.ledger.leases import Reply
from rlm.ledger.processes import Role
from rlm.ledger.store import Store
from rlm.ledger.trouble import Outage
from rlm.ledger.waker import Waker
from rlm.processes.signals import StopSignals
from scheduler.conductor import Conductor
from scheduler.leader import HandedOverError
from scheduler.office import Office, announce
from scheduler.redis_watch import FIT_SECONDS, IDLE_FIT_SECONDS
from scheduler.ticks import last_due, open_run, serve_tick

#: Seconds between two turns of an idle leader, which renews its lease then, and serves a tick that APScheduler
#: would call late, because the clock of this host was set; and of a standby, which tries to take the lease.
IDLE_SECONDS = 1.0
STANDBY_SECONDS = 0.25
#: Seconds after a tick in which its job begins, unless the clock of this host is wrong.
JOB_SECONDS = 0.1
#: Pause after a failure of Redis, seconds.
AWAY_SECONDS = 0.5

log = logging.getLogger(__name__)


def start_clock(every_seconds: float, redis_now: Callable[[], float], job: Callable[[], None]) -> BackgroundScheduler:
    """Start APScheduler: it calls `job` at multiples of a period by the clock of Redis, late rather than never."""
    left = last_due(redis_now(), every_seconds) + every_seconds - redis_now()
    first = datetime.now(UTC) + timedelta(seconds=left)
    clock = BackgroundScheduler(timezone=UTC)
    options = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1, "next_run_time": first}
    clock.add_job(job, "interval", seconds=every_seconds, id="tick", **options)
    clock.start()
    return clock


class SchedulerService(Office):
    """Runs until it is told to stop. Ticks and requests start runs; a run left open by another is finished first.

    The job of APScheduler serves the ticks. The main thread keeps the lease, takes requests and keeps house in between.
    Only one of the two works at a time.
    """

    def __init__(self, store: Store, stop: StopSignals, *, allow_volatile: bool = False) -> None:
        """Schedule on `store`; with `allow_volatile` also if its Redis has no append-only file."""
        super().__init__(store, stop, allow_volatile=allow_volatile)
        self._wakeup = stop.wakeup
        self._working = threading.Lock()
        #: The last tick that was taken; None if it is to be looked at again.
        self._taken: float | None = None
        self._up_since = system_clock.monotonic()
        self._stopped = threading.Event()
        self._outage = Outage(log, "schedule")
        #: Whether the steps after the last run are known to be done: not if Redis failed while it was closed, or if
        #: another process, which may have died, closed it.
        self._saw_last_end = False
        #: The token of the lease with which this scheduler took over, and of that with which it published its limits.
        self._in_office = self._published = 0

    def job(self) -> None:
        """Serve the tick that is due: drain, plan, scale, wait for the end. APScheduler runs this at each tick."""
        self._sleep_out()
        with self._work():
            run = self._due_run()
            if run is not None:
                conductor = Conductor(self._desk, run)
                conductor.drain()
                conductor.plan()
                conductor.scale()
                conductor.await_end()
                self._after(conductor)

    def run(self) -> None:
        """Schedule until a signal; then hand over or close an open run, and release the lease."""
        waker = Waker(self._store.url, self._store.keys.wake("scheduler"), self._wakeup.wake)
        clock = start_clock(self._store.settings.run.every_seconds, self._store.clock.now, self.job)
        waker.start()
        announcing = partial(announce, allow_volatile=self._redis.allow_volatile)
        args = self._store, self._leader, self._stopped
        announcer = threading.Thread(target=announcing, args=args, name="announce", daemon=True)
        announcer.start()
        self._watch.start()
        told = "Scheduler %s (rlm %s, pid %d) starts a run every %g s"
        log.info(
            told,
            self._leader.owner,
            __version__,
            os.getpid(),
            self._store.settings.run.every_seconds,
            extra={"action": "start_scheduler"},
        )
        try:
            while not self._duty.stopping:
                with self._work():
                    self._turn()
                if not self._duty.stopping:
                    self._duty.wait(self._idle_seconds() if self._leader.token else STANDBY_SECONDS)
        finally:
            self._stopped.set()
            announcer.join()
            with self._working:
                self._sign_off()
            clock.shutdown(wait=False)
            waker.stop()

    def _idle_seconds(self) -> float:
        """Return how long an idle leader waits: at most until just after the next tick, for its job may be late."""
        now = self._store.clock.now()
        return min(
            IDLE_SECONDS,
            last_due(now, self._store.settings.run.every_seconds)
            + self._store.settings.run.every_seconds
            - now
            + JOB_SECONDS,
        )

    def _sleep_out(self) -> None:
        """Wait until the tick is due by the clock of Redis, if the clock of this host is ahead."""
        while not self._duty.stopping:
            now = self._store.clock.now()
            left = last_due(now, self._store.settings.run.every_seconds) + self._store.settings.run.every_seconds - now
            if left > self._store.settings.run.every_seconds / 2 or self._stopped.wait(left):
                return

    @contextmanager
    def _work(self) -> Iterator[None]:
        """Work while the other thread does not; wait a while if Redis fails. If the lease is lost, stand by."""
        with self._working:
            try:
                with self._store.guarded():  # no content of Redis may end the scheduler
                    yield
            except FencedError as error:
                self._leader.token = 0
                log.warning("This scheduler does not conduct any more: %s", error, extra={"action": "stand_by"})
            except HandedOverError as error:
                log.info("Run %s is left to a standby", error, extra={"action": "hand_over"})
            except StoreError as error:
                self._duty.note_outage()
                self._saw_last_end = False
                self._outage.tell(error, "no run is started meanwhile")
                self._duty.wait(AWAY_SECONDS)
            else:
                self._outage.over()

    def _turn(self) -> None:
        """As the leader repeat the first step that has something to do, until none has."""
        while not self._duty.stopping and self._leads():
            steps = [self._go_on, self._see_to_last]
            if not self._redis.unfit:
                steps += [self._publish_limits, self._start_requested, self._start_due, self._housekeeper.step]
            if not any(step() for step in steps):
                return

    def _leads(self) -> bool:
        """Return whether this scheduler leads. On promotion a tick counts as due: one may have had no leader."""
        before = self._leader.standing
        if not self._leader.campaign():
            standing = self._leader.standing
            if standing and standing.apart_seconds and not (before and before.apart_seconds):
                why = capital(kept_apart(self._store, standing))
                log.warning("%s", why, extra={"action": "stand_by"})
            return False
        if self._leader.token != self._in_office:
            self._saw_last_end = False
            # Looking again at a tick that was served does no harm. In a new installation the next tick is the first.
            first = last_due(self._store.clock.at(self._up_since), self._store.settings.run.every_seconds)
            self._taken = first if self._store.schedule.last_tick() is None else None
            self._in_office = self._leader.token  # last: if Redis fails earlier, the next turn repeats this
        self._redis.check(FIT_SECONDS if self._redis.unfit else IDLE_FIT_SECONDS)
        return True

    def _go_on(self) -> bool:
        """Conduct a run that another scheduler or a failure of Redis left open. Note its tick if that was not done."""
        schedule, run = self._store.schedule, self._store.runs.current()
        if run is None:
            return False
        if run.trigger is Trigger.SCHEDULE and (schedule.last_tick() or 0.0) < run.tick:
            schedule.note_tick(run.tick)
        self._conduct_run(run)
        return True

    def _see_to_last(self) -> bool:
        """Do the steps after the last run, unless it is noted that they are done."""
        if self._saw_last_end:
            return False
        self._saw_last_end = self._housekeeper.see_to_last()
        return self._saw_last_end

    def _publish_limits(self) -> bool:
        """Publish the file's limits, once in office, so that a changed file is in force before the next run.

        No run is open here; one of another configuration keeps the limits with which it began.
        """
        if self._published != self._leader.token:
            self._store.publish_limits(self._leader.token)
            self._published = self._leader.token
        return False

    def _start_requested(self) -> bool:
        request = self._store.schedule.next_request()
        if request is None:
            return False
        crash_point("request.seen")
        run_id = open_run(self._store, self._leader.token, Trigger.MANUAL, self._store.now())
        self._store.schedule.answer(request, Reply(run_id=run_id))
        if run := self._store.runs.current():
            self._conduct_run(run)
        return True

    def _start_due(self) -> bool:
        """Start the run of a tick that had no leader, or passed while a run was open or the host's clock was set."""
        if run := self._open_due():
            self._conduct_run(run)
        return run is not None

    def _due_run(self) -> Run | None:
        """Return the run of the tick that is due now, which the job conducts; None if there is nothing to do for it."""
        is_free = not self._duty.stopping and self._leads() and not self._redis.unfit
        if not is_free or self._store.runs.is_any_open():
            self._wakeup.wake()  # the main thread goes on with it
            return None
        self._publish_limits()
        return self._open_due()

    def _open_due(self) -> Run | None:
        """Open the run of a due tick: one that is not the last one taken, even after the clock was set back."""
        now = self._store.clock.now()
        if (due := last_due(now, self._store.settings.run.every_seconds)) == self._taken:
            return None
        self._taken = due
        try:
            if not serve_tick(self._store, self._leader.token, now):
                return None
            return self._store.runs.current()
        except StoreError:
            self._taken = None  # no harm if the tick was noted
            raise

    def _conduct_run(self, run: Run) -> None:
        conductor = Conductor(self._desk, run)
        conductor.conduct()
        self._after(conductor)

    def _after(self, conductor: Conductor) -> None:
        """Do the steps after a run, unless the process that closed it is at them."""
        crash_point("run.conducted")
        self._saw_last_end = conductor.record is None or conductor.has_closed
        self._housekeeper.after_run(conductor.record if conductor.has_closed else None)

    def _sign_off(self) -> None:
        """Give the lease up; an open run is a standby's, or ends here."""
        try:
            self._store.processes.forget(Role.SCHEDULER, self._leader.owner)  # first: nobody hands its run to this one
            run = self._store.runs.current() if self._duty.stopping and self._leader.token else None
            if run is not None and not self._duty.standby() and self._leader.campaign():
                self._conduct_run(run)
            self._leader.resign()
            self._store.processes.wake("scheduler")
        except StoreError as error:
            log.warning("The scheduler could not sign off: %s", error, extra={"action": "stop_scheduler"})
        log.info("Scheduler %s has stopped", self._leader.owner, extra={"action": "stop_scheduler"})
