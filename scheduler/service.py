"""The scheduler process: APScheduler gives the ticks, the lease says who conducts, one thread does the work."""

from __future__ import annotations

import logging
import os
import socket
import threading
from datetime import UTC
from typing import TYPE_CHECKING, Any

from apscheduler.schedulers.background import BackgroundScheduler

from actors.broker import ClaimCheckBroker
from rlm import __version__, telemetry
from rlm.core.clock import isoformat, system_clock
from rlm.core.errors import FencedError, StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Trigger
from rlm.ledger import revive
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Role, Waker
from rlm.ledger.store import Outage
from scheduler.changes import ChangeTeller
from scheduler.conductor import Conductor, HandedOverError
from scheduler.duty import Duty
from scheduler.housekeeping import Housekeeper
from scheduler.leader import Leader
from scheduler.tick import is_anything_to_do, is_served, last_due, missed, open_run
from scheduler.ticking import Ticks, TickTrigger

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.processes.signals import StopSignals, Wakeup
    from rlm.settings import Settings

#: How long an idle scheduler waits between two looks at the lease, seconds: a part of the time a takeover takes.
IDLE_SECONDS = 0.25
#: How long it leaves Redis alone when that is away, seconds.
AWAY_SECONDS = 0.5
#: How long one that is stopping waits for a standby to take the lease, and how often it looks, seconds.
TAKEOVER_SECONDS = 2.0
POLL_SECONDS = 0.02
#: By how much a multiple of a period may be off, for the rounding of a number so large, seconds.
ROUNDING_SECONDS = 0.001

log = logging.getLogger(__name__)


class SchedulerService:
    """Runs until it is told to stop. Ticks and requests start runs; a run left open by another is finished first."""

    def __init__(
        self, store: Store, settings: Settings, wakeup: Wakeup, stop: StopSignals, *, allow_volatile: bool = False
    ) -> None:
        """Schedule on `store`; with `allow_volatile` also where its Redis keeps no append-only file."""
        self._store = store
        self._settings = settings
        self._wakeup = wakeup
        self._ticks = Ticks(self._last_due())
        self._leader = Leader(store.leases)
        self._duty = Duty(store, wakeup, stop, self._leader.owner)
        broker = ClaimCheckBroker(store.url, store.keys.dramatiq)
        self._conductor = Conductor(store, broker, self._leader, self._duty, allow_volatile=allow_volatile)
        self._mender = self._conductor.mender
        self._housekeeper = Housekeeper(store, broker, self._leader)
        self._started_at = system_clock.now()
        self._stopped = threading.Event()
        self._outage = Outage(log, "schedule")
        #: The run that Redis failed in: where it is closed when Redis is back, its end is still to be seen to.
        self._lost_sight_of: Run | None = None
        #: Who leads while this one stands by, as it was last told.
        self._told_leader = ""
        #: The token of the lease with which a tick was looked for that came when nobody conducted.
        self._in_office = 0

    def run(self) -> None:
        """Schedule until a signal; then hand an open run over, or close it, and give the lease up."""
        waker = Waker(self._store.url, self._store.keys.wake("scheduler"), self._wakeup.wake)
        clock = self._start_clock()
        waker.start()
        announcer = threading.Thread(target=self._announce, name="announce", daemon=True)
        announcer.start()
        log.info(
            "Scheduler %s (rlm %s, pid %d) starts a run every %g s",
            self._leader.owner,
            __version__,
            os.getpid(),
            self._settings.run.every_seconds,
            extra={"action": "start_scheduler"},
        )
        try:
            while not self._duty.stopping:
                self._turn()
        finally:
            self._stopped.set()
            announcer.join()
            self._sign_off()
            clock.shutdown(wait=False)
            waker.stop()

    def _start_clock(self) -> BackgroundScheduler:
        """Start APScheduler: ticks on multiples of `every_seconds` on the wall clock, late rather than never."""
        clock = BackgroundScheduler(timezone=UTC)
        clock.add_job(
            self._on_tick,
            TickTrigger(self._settings.run.every_seconds),
            id="tick",
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )
        clock.start()
        return clock

    def _on_tick(self) -> None:
        self._ticks.remember()
        self._wakeup.wake()

    def _turn(self) -> None:
        """Do what there is to do, then wait. Trouble with Redis is waited out; a lost lease makes this a standby."""
        try:
            with self._store.guarded():  # whatever stands in Redis is no reason to end
                self._schedule()
        except FencedError as error:
            self._leader.token = 0
            self._lost_sight_of = None
            log.warning("This scheduler does not conduct any more: %s", error, extra={"action": "stand_by"})
        except HandedOverError as error:
            log.info("Run %s is left to a standby", error, extra={"action": "hand_over"})
        except StoreError as error:
            self._duty.note_outage()
            self._outage.tell(error, "no run is started meanwhile")
            revive(self._store)
            self._mend_after(error)
            self._duty.wait(AWAY_SECONDS)
        else:
            self._outage.over()
            self._duty.wait(IDLE_SECONDS)

    def _schedule(self) -> None:
        if self._take_office():
            self._lead()
        else:
            self._lost_sight_of = None  # whoever conducts now sees to it
            self._conductor.watch()

    def _mend_after(self, error: StoreError) -> None:
        try:
            self._mender.after(error)
        except FencedError:
            self._leader.token = 0  # the next turn sees who conducts

    def _take_office(self) -> bool:
        """Tell whether this scheduler conducts. Where it does from now on, a tick may have come when nobody did."""
        if not self._leader.campaign():
            self._tell_leader()
            return False
        self._told_leader = ""
        if self._leader.token != self._in_office:
            self._mender.mend()
            if self._store.schedule.last_tick() is not None:
                self._ticks.remember()  # also one of before this process began; where it was served, no harm is done
            self._in_office = self._leader.token  # not before: where Redis failed, the next turn looks again
        return True

    def _tell_leader(self) -> None:
        """Log that this scheduler stands by and who leads, whenever that is another."""
        leader = self._leader.holder
        if leader == self._told_leader:
            return
        self._told_leader = leader
        host, _, process = leader.partition(":")
        log.info(
            "Scheduler %s stands by, and takes over if the one that leads ends or falls silent: host %s, pid %s",
            self._leader.owner,
            host,
            process.partition(":")[0],
            extra={"action": "stand_by"},
        )

    def _lead(self) -> None:
        """Finish what is open, then serve who asks, then a tick that is due, until there is nothing to do."""
        while not self._duty.stopping and self._leader.campaign():
            self._mender.step()
            unfit = self._conductor.vouch()
            run = self._store.runs.current()
            if run is not None:
                self._go_on(run)
            elif self._lost_sight_of is not None:
                self._see_to_end(self._conductor.finish(self._lost_sight_of))
            elif unfit:
                return
            elif (request := self._store.schedule.next_request()) is not None:
                self._start(request)
            elif self._ticks.take(self._last_due()):
                self._try_tick()
            elif not self._housekeeper.step():
                self._mender.tidy()
                return

    def _go_on(self, run: Run) -> None:
        """Conduct a run that was left open, by another or when Redis failed. Its tick may not have been noted."""
        schedule = self._store.schedule
        if run.trigger is Trigger.SCHEDULE and (schedule.last_tick() or 0.0) < run.tick:
            schedule.note_tick(run.tick)
        self._conduct(run)

    def _start(self, request: str) -> None:
        crash_point("request.seen")
        self._mender.before_run()
        run_id = open_run(self._store, self._leader.token, Trigger.MANUAL, system_clock.now())
        self._store.schedule.answer(request, {"run_id": run_id})
        self._conduct_open()

    def _last_due(self) -> float:
        return last_due(system_clock.now(), self._settings.run.every_seconds)

    def _try_tick(self) -> None:
        try:
            self._tick()
        except StoreError:
            self._ticks.remember()  # where it is noted by now, this changes nothing
            raise

    def _tick(self) -> None:
        """Open the run of a tick, then note the tick: one that is noted was served, whoever dies in between."""
        self._mender.before_run()
        now, run_settings = system_clock.now(), self._settings.run
        due = last_due(now, run_settings.every_seconds)
        last = self._store.schedule.last_tick()
        if is_served(last, due, now):
            return  # whoever held the lease before has done it
        over = now > due + run_settings.window_seconds + ROUNDING_SECONDS
        if skipped := missed(last, due, run_settings.every_seconds) + over:
            log.warning(
                "%s missed since %s: no scheduler conducted, Redis was away, or a run was open; what waits is taken %s",
                "1 tick was" if skipped == 1 else f"{skipped} ticks were",
                "the start" if last is None else isoformat(last),
                "at the next tick" if over else "now",
                extra={"action": "miss_ticks"},
            )
        if over:  # its run would be over as it opens
            self._store.schedule.note_tick(now)
            return
        crash_point("tick.due")
        telemetry.tick_began(self._settings, due)
        if work := is_anything_to_do(self._store):
            open_run(self._store, self._leader.token, Trigger.SCHEDULE, due, away=self._duty.lately_away)
        self._store.schedule.note_tick(now)
        crash_point("tick.noted")
        if work:
            self._conduct_open()  # whoever finishes the run says that the tick has ended
        else:
            telemetry.tick_ended(self._settings, due, ok=True)

    def _conduct_open(self) -> None:
        run = self._store.runs.current()
        if run is not None:
            self._conduct(run)

    def _conduct(self, run: Run) -> None:
        self._lost_sight_of = run
        record = self._conductor.conduct(run)
        crash_point("run.conducted")
        self._see_to_end(record)

    def _see_to_end(self, record: dict[str, Any] | None) -> None:
        self._lost_sight_of = None
        self._housekeeper.after_run(record)

    def _announce(self) -> None:
        process = Process(
            id=self._leader.owner,
            pid=os.getpid(),
            host=socket.gethostname(),
            started_at=self._started_at,
            revision=self._settings.revision,
            version=__version__,
        )
        changes = ChangeTeller(self._store)
        while True:
            try:
                self._store.processes.announce(Role.SCHEDULER, process)
                changes.tell(aloud=bool(self._leader.token))
            except StoreError as error:
                log.info("The scheduler cannot announce itself: %s", error, extra={"action": "announce"})
            if self._stopped.wait(HEARTBEAT_SECONDS):
                return

    def _sign_off(self) -> None:
        try:
            self._store.processes.forget(Role.SCHEDULER, self._leader.owner)  # first: no other hands its run over here
            if self._duty.stopping and self._leader.token:
                self._leave_no_run_behind()
            self._give_lease_up()
        except StoreError as error:
            log.warning("The scheduler could not sign off: %s", error, extra={"action": "stop_scheduler"})
        log.info("Scheduler %s has stopped", self._leader.owner, extra={"action": "stop_scheduler"})

    def _leave_no_run_behind(self) -> None:
        """See that a standby takes the lease where a run is open; close that run if none does: all may be stopping."""
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
