"""The scheduler process: APScheduler provides the ticks, the lease decides who leads, one thread does the work."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from rlm import __version__
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, Trigger
from rlm.ledger import Store
from rlm.ledger.processes import Role
from rlm.ledger.trouble import Outage, revive
from rlm.ledger.waker import Waker
from rlm.processes.signals import StopSignals
from scheduler.conductor import HandedOverError
from scheduler.office import Office, Standby, announce
from scheduler.redis_watch import AGAIN_SECONDS, FIT_SECONDS, IDLE_FIT_SECONDS
from scheduler.ticks import last_due, open_run, serve_tick

#: Seconds that an idle leader sleeps unless it is woken, in case a wake-up was lost.
IDLE_SECONDS = 4.0
#: Seconds between its renewals of the lease meanwhile; its next turn makes the last one.
IDLE_RENEW_SECONDS = IDLE_SECONDS / 3
#: Pause after a failure of Redis, seconds.
AWAY_SECONDS = 0.5
#: Seconds that a stopping scheduler waits for a standby to take the lease, and seconds between two looks.
TAKEOVER_SECONDS = 2.0
POLL_SECONDS = 0.02
#: Seconds for which whoever closed an overdue run may be at the steps after it; later it is dead.
CLOSER_SECONDS = 2.0

log = logging.getLogger(__name__)


class TickTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at multiples of a period by the clock of Redis.

    The stock trigger uses the clock of the host. If that leaps, such as from 1970 to today while a machine boots, it
    would count through all the multiples in between, one by one.
    """

    def __init__(self, every_seconds: float, redis_now: Callable[[], float]) -> None:
        self._every_seconds = every_seconds
        self._redis_now = redis_now

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """Return the time of the next multiple by the clock of this host, which is at `now`."""
        redis_now = self._redis_now()
        left = last_due(redis_now, self._every_seconds) + self._every_seconds - redis_now
        return datetime.fromtimestamp(now.timestamp() + left, UTC)


def start_clock(every_seconds: float, now: Callable[[], float], on_tick: Callable[[], None]) -> BackgroundScheduler:
    """Start APScheduler; it calls `on_tick` at multiples of `every_seconds` by `now`, late rather than never."""
    clock = BackgroundScheduler(timezone=UTC)
    trigger = TickTrigger(every_seconds, now)
    clock.add_job(on_tick, trigger, id="tick", misfire_grace_time=None, coalesce=True, max_instances=1)
    clock.start()
    return clock


class SchedulerService(Office):
    """Runs until it is told to stop. Ticks and requests start runs; a run left open by another is finished first."""

    def __init__(self, store: Store, stop: StopSignals, *, allow_volatile: bool = False) -> None:
        """Schedule on `store`; with `allow_volatile` also if its Redis has no append-only file."""
        super().__init__(store, stop, allow_volatile=allow_volatile)
        self._wakeup = stop.wakeup
        self._standby = Standby(store, self._redis, self._leader, self._duty)
        #: The last tick that was taken; None if it is to be looked at again.
        self._taken: float | None = None
        self._up_since = system_clock.monotonic()
        self._stopped = threading.Event()
        self._outage = Outage(log, "schedule")
        #: Whether the steps after the last run are known to be done: not if Redis failed while it was closed, or if
        #: another scheduler, which may have died, conducted it.
        self._saw_last_end = False
        #: Whether this turn follows a wake-up or a tick; if not, it only checks for a lost wake-up.
        self._woken = True
        #: The token of the lease with which this scheduler took over, and of that with which it published its limits.
        self._in_office = self._published = 0

    def run(self) -> None:
        """Schedule until a signal; then hand over or close an open run, and release the lease."""
        waker = Waker(self._store.url, self._store.keys.wake("scheduler"), self._wakeup.wake)
        clock = start_clock(self._store.settings.run.every_seconds, self._clock.now, self._wakeup.wake)
        waker.start()
        announcing = partial(announce, allow_volatile=self._redis.allow_volatile)
        args = self._store, self._leader, self._stopped
        announcer = threading.Thread(target=announcing, args=args, name="announce", daemon=True)
        announcer.start()
        told, every = "Scheduler %s (rlm %s, pid %d) starts a run every %g s", self._store.settings.run.every_seconds
        log.info(told, self._leader.owner, __version__, os.getpid(), every, extra={"action": "start_scheduler"})
        try:
            while not self._duty.stopping:
                self._turn()
        finally:
            self._stopped.set()
            announcer.join()
            self._sign_off()
            clock.shutdown(wait=False)
            waker.stop()

    def _turn(self) -> None:
        """Do what is due, then wait; wait a while if Redis fails. If the lease is lost, stand by."""
        try:
            with self._store.guarded():  # no content of Redis may end the scheduler
                self._schedule()
        except FencedError as error:
            self._leader.token = 0
            log.warning("This scheduler does not conduct any more: %s", error, extra={"action": "stand_by"})
        except HandedOverError as error:
            log.info("Run %s is left to a standby", error, extra={"action": "hand_over"})
        except StoreError as error:
            self._duty.note_outage()
            self._saw_last_end = False
            self._outage.tell(error, "no run is started meanwhile")
            revive(self._store)
            self._keys.after(error)
            self._duty.wait(AWAY_SECONDS)
        else:
            self._outage.over()
            self._rest()

    def _rest(self) -> None:
        """Wait until woken or until another look is due; return at once if a stop is requested."""
        idle_seconds = FIT_SECONDS if self._redis.unfit else IDLE_SECONDS
        until, token = system_clock.monotonic() + idle_seconds, self._leader.token
        if self._duty.stopping:
            return
        self._woken = self._sleep(IDLE_RENEW_SECONDS) if token else self._duty.wait(self._standby.pause_seconds)
        with suppress(StoreError):  # the next turn handles it
            while token and not self._woken and (left := until - system_clock.monotonic()) > 0:
                if not self._leader.prolong():
                    return
                self._woken = self._sleep(min(left, IDLE_RENEW_SECONDS))

    def _sleep(self, seconds: float) -> bool:
        """Wait until woken, or until a tick is due by the clock of Redis; return whether one of both happened."""
        until, woken = system_clock.monotonic() + seconds, False
        while not woken and (left := until - system_clock.monotonic()) > 0:
            next_tick = self._last_due() + self._store.settings.run.every_seconds - self._clock.now()
            woken = self._duty.wait(min(left, next_tick)) or self._last_due() != self._taken
        return woken

    def _schedule(self) -> None:
        if self._take_office():
            self._lead()
        else:
            self._standby.step(woken=self._woken)

    def _take_office(self) -> bool:
        """Return whether this scheduler leads. On promotion a tick counts as due: one may have had no leader."""
        if not self._leader.campaign():
            self._leader.tell_holder()
            return False
        if self._leader.token != self._in_office:
            self._saw_last_end = False
            # Looking again at a tick that was served does no harm. In a new installation the next tick is the first.
            self._taken = self._due_at(self._up_since) if self._store.schedule.last_tick() is None else None
            self._in_office = self._leader.token  # last: if Redis fails earlier, the next turn repeats this
        return True

    def _lead(self) -> None:
        """Repeat the first step that has something to do, until none has."""
        while not self._duty.stopping and self._leader.campaign():
            self._keys.step(AGAIN_SECONDS)
            open_steps = (self._go_on, self._see_to_last)
            free_steps = (self._publish_limits, self._start_requested, self._start_due, self._keep_house)
            self._redis.check(FIT_SECONDS if self._woken else IDLE_FIT_SECONDS)
            if not any(step() for step in (open_steps if self._redis.unfit else (*open_steps, *free_steps))):
                return

    def _go_on(self) -> bool:
        """Conduct a run that another scheduler or a failure of Redis left open. Note its tick if that was not done."""
        schedule, run = self._store.schedule, self._store.runs.current()
        if run is None:
            return False
        if run.trigger is Trigger.SCHEDULE and (schedule.last_tick() or 0.0) < run.tick:
            schedule.note_tick(run.tick)
        self._conduct(run)
        return True

    def _see_to_last(self) -> bool:
        """Do the steps after the last run, unless `rlm.delivery.run_record.look_over` has noted that they are done."""
        if self._saw_last_end:
            return False
        self._saw_last_end = self._housekeeper.see_to(self._store.runs.recent(1), CLOSER_SECONDS)
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
        self._store.schedule.answer(request, {"run_id": run_id})
        self._conduct_open()
        return True

    def _start_due(self) -> bool:
        """Start the run of a due tick. It is due if it is not the last one taken, even after the clock was set back."""
        now = self._clock.now()
        if (due := last_due(now, self._store.settings.run.every_seconds)) == self._taken:
            return False
        self._taken = due
        try:
            if serve_tick(self._store, self._leader.token, now, away=self._duty.lately_away):
                self._conduct_open()
        except StoreError:
            self._taken = None  # no harm if the tick was noted
            raise
        return True

    def _keep_house(self) -> bool:
        return self._housekeeper.step()

    def _last_due(self) -> float:
        return self._due_at(system_clock.monotonic())

    def _due_at(self, moment: float) -> float:
        return last_due(self._clock.at(moment), self._store.settings.run.every_seconds)

    def _conduct_open(self) -> None:
        run = self._store.runs.current()
        if run is not None:
            self._conduct(run)

    def _conduct(self, run: Run) -> None:
        unseen = [] if self._saw_last_end else self._store.runs.recent(1)
        record = self._conductor.conduct(run)
        crash_point("run.conducted")
        self._housekeeper.see_to(unseen)
        self._saw_last_end = record is None or not record.overdue
        self._housekeeper.after_run(record if self._saw_last_end else None)

    def _sign_off(self) -> None:
        try:
            self._store.processes.forget(Role.SCHEDULER, self._leader.owner)  # first: nobody hands its run to this one
            if self._duty.stopping and self._leader.token:
                self._leave_no_run_behind()
            self._give_lease_up()
        except StoreError as error:
            log.warning("The scheduler could not sign off: %s", error, extra={"action": "stop_scheduler"})
        log.info("Scheduler %s has stopped", self._leader.owner, extra={"action": "stop_scheduler"})

    def _leave_no_run_behind(self) -> None:
        """Hand an open run to a standby. If none takes the lease, all may be stopping: then close the run here."""
        if self._store.runs.current() is None:
            return
        if self._duty.standby():
            self._give_lease_up()
            until = system_clock.monotonic() + TAKEOVER_SECONDS
            while system_clock.monotonic() < until:
                if self._store.leases.holder() is not None:
                    return
                system_clock.sleep(POLL_SECONDS)
        self._duty.forsaken = True
        if self._leader.campaign():
            log.warning("No standby took the lease, so the run is closed here", extra={"action": "hand_over"})
            self._conduct_open()

    def _give_lease_up(self) -> None:
        self._leader.resign()
        self._store.processes.wake("scheduler")
