"""Who leads: by the lease, with what is owed to others meanwhile; a scheduler, or a command that conducts one run."""

from __future__ import annotations

import logging
import os
import secrets
import select
from typing import TYPE_CHECKING, Any

from actors.broker import WakingBroker
from rlm import SCHEMA, __version__
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, RunError, StoreError, StoreUnfitError
from rlm.core.run import State, Trigger
from rlm.ledger.control import ChangeTeller
from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Process, Role
from scheduler.conductor import Conductor
from scheduler.host_watch import HostWatch
from scheduler.housekeeping import Housekeeper
from scheduler.ticks import open_run

if TYPE_CHECKING:
    import threading

    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.ledger.leases import Leases
    from rlm.processes.signals import StopSignals, Wakeup

#: Seconds after which a standby may take the lease of a scheduler that fell silent; of one that releases calls, since
#: nobody does meanwhile; and beside these so many turns of its loop.
LEASE_SECONDS, BRISK_LEASE_SECONDS, TURNS_LEASED = 3.0, 1.5, 4
#: How often the holder prolongs it, seconds, and how often while nothing is to be done.
RENEW_SECONDS = 0.25
IDLE_RENEW_SECONDS = 1.25
#: How often it is looked whether other hosts live, where there are any, seconds.
LOOK_SECONDS = 1.0
#: The most requests for a run that are answered at once: a flooded list does not hold the run up.
MOST_ASKS = 100
#: How long after Redis has answered again an outage counts as recent, seconds.
LATELY_SECONDS = HEARTBEAT_TTL_SECONDS

#: How often a command asks for the lease again, seconds.
_CAMPAIGN_SECONDS = 0.2
#: How often it looks whether its supervisor is there, seconds: the run waits for that.
_ARRIVAL_SECONDS = 0.01

#: What a newer version means that has conducted.
BARRED = "what it left this one cannot go on with, so it does not conduct"

log = logging.getLogger(__name__)


class Leader:
    """One process's claim to lead. `token` is 0 while another holds the lease, the `holder`.

    `newer` is the version of processes whose schema is above this one's, empty without any. `barred`: such a scheduler
    has conducted, and this one may not go on with what it left.
    """

    def __init__(self, leases: Leases, host: str) -> None:
        self._leases = leases
        self.owner = f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
        self.token = 0
        self.holder = self._told = self.newer = ""
        self.barred = False
        self._renewed_at = float("-inf")

    def campaign(self, seconds: float = LEASE_SECONDS) -> bool:
        """Take the lease if it is free, prolong it to `seconds` if it is ours; return whether we hold it."""
        now = system_clock.monotonic()
        if self.token and now - self._renewed_at < RENEW_SECONDS:
            return True
        before = self.token
        standing = self._leases.contend(self.owner, seconds)
        self.token, self.holder, self.barred = standing.token, standing.holder, standing.barred
        self._renewed_at = now
        self._tell_newer(standing.newer)
        if self.token and not before:
            self._told = ""
            log.info("%s conducts from now on (token %d)", self.owner, self.token, extra={"action": "take_lease"})
        return bool(self.token)

    def tell_holder(self) -> None:
        """Log who leads while this one stands by, whenever that is another."""
        if self.holder == self._told or not self.holder:
            return
        self._told = self.holder
        host, _, process = self.holder.partition(":")
        log.info(
            "Scheduler %s stands by, and takes over if the one that leads ends or falls silent: host %s, pid %s",
            self.owner,
            host,
            process.partition(":")[0],
            extra={"action": "stand_by"},
        )

    def _tell_newer(self, newer: str) -> None:
        """Log that a newer version works here, whenever that is another."""
        if newer and newer != self.newer:
            log.warning(
                "rlm %s works here, whose schema is above that of this scheduler (%d): %s; upgrade this host",
                newer,
                SCHEMA,
                BARRED if self.barred else "what this one cannot read is left alone, and nothing is mended",
                extra={"action": "meet_newer"},
            )
        self.newer = newer

    def keep(self, turn_seconds: float | None = None) -> None:
        """Prolong the lease when it is time; for less if it is seen to again after at most `turn_seconds`.

        Raises:
            FencedError: another scheduler took it over meanwhile; stop conducting.
        """
        before = self.token
        brisk = LEASE_SECONDS if turn_seconds is None else BRISK_LEASE_SECONDS + TURNS_LEASED * turn_seconds
        if not self.campaign(min(brisk, LEASE_SECONDS)) or self.token != before:
            raise FencedError(f"{self.owner} no longer holds the conductor's lease")

    def resign(self) -> None:
        """Give the lease up."""
        self.token = 0
        self._renewed_at = float("-inf")
        self._leases.release(self.owner)


def announce(store: Store, leader: Leader, stopped: threading.Event) -> None:
    """Announce a scheduler every few seconds until it has `stopped`, and log what operators change."""
    process = Process(
        id=leader.owner,
        pid=os.getpid(),
        host=store.settings.host_name,
        started_at=system_clock.now(),
        revision=store.settings.revision,
        version=__version__,
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


class Duty:
    """What a leader owes others while it works: to notice a stop, to answer requests for a run, to be woken.

    The service and the run that it conducts share one: one thread, one place to wait.
    """

    def __init__(
        self, store: Store, wakeup: Wakeup, stop: StopSignals, scheduler_id: str, *, cancels: bool = False
    ) -> None:
        """Heed the signals of this process; `cancels`: a stop cancels the run, which was started by hand here."""
        self._store = store
        self._wakeup = wakeup
        self._stop = stop
        self._id = scheduler_id
        self.cancels = cancels
        #: Nobody took the lease when a run was to be handed over: any other scheduler is about to stop as well.
        self.forsaken = False
        self.failed_at = float("-inf")  #: when Redis last did not answer, monotonic seconds

    def note_outage(self) -> None:
        """Note that Redis did not answer just now."""
        self.failed_at = system_clock.monotonic()

    @property
    def lately_away(self) -> bool:
        """Whether Redis was away recently: the living may not be known yet, and a run may have stood still."""
        return system_clock.monotonic() - self.failed_at < LATELY_SECONDS

    @property
    def stopping(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._stop.graceful

    @property
    def hurried(self) -> bool:
        """Whether it has been asked a second time: calls under way are no longer awaited."""
        return self._stop.immediate

    def wait(self, seconds: float) -> bool:
        """Wait `seconds`, or until woken; return whether that was so."""
        woken, _, _ = select.select([self._wakeup], [], [], max(0.0, seconds))
        self._wakeup.drain()
        return bool(woken)

    def serve(self, run: Run) -> None:
        """Answer those who asked for a run that this one is under way."""
        for _ in range(MOST_ASKS):
            if (request := self._store.schedule.next_request()) is None:
                return
            self._store.schedule.answer(request, {"open": run.id})

    def standby(self) -> bool:
        """Return whether another scheduler is alive that can go on with a run."""
        return not self.forsaken and any(one.id != self._id for one in self._store.processes.alive(Role.SCHEDULER))


class Office:
    """Who conducts runs: the lease, what its holder owes others, the conductor, and who keeps house between runs."""

    #: Whether a stop cancels the run.
    _cancels = False

    def __init__(self, store: Store, wakeup: Wakeup, stop: StopSignals, *, allow_volatile: bool = False) -> None:
        """Conduct on `store`; with `allow_volatile` also if its Redis keeps no append-only file."""
        self._store = store
        self._leader = Leader(store.leases, store.settings.host_name)
        self._duty = Duty(store, wakeup, stop, self._leader.owner, cancels=self._cancels)
        broker = WakingBroker(store.url, store.keys.dramatiq)
        self._conductor = Conductor(store, broker, self._leader, self._duty, allow_volatile=allow_volatile)
        self._clock = self._conductor.clock
        self._mender = self._conductor.mender
        self._housekeeper = Housekeeper(store, broker, self._leader)


class HandConductor(Office):
    """Conducts one run in the foreground, as a scheduler would.

    Its methods raise FencedError if another took the lease over, and StoreError if Redis did not answer.
    """

    _cancels = True
    run_id = ""  #: that `conduct` opened

    def campaign(self, seconds: float) -> None:
        """Take the lease, waiting up to `seconds` for one that a dead scheduler left.

        Call `resign` in the end, also if this raises: the lease may have been taken by then.

        Raises:
            RunError: a living one holds it.
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
        if unfit := self._conductor.check_redis():
            raise StoreUnfitError(unfit)

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
            self._conductor.conduct(run)

    def conduct(self) -> dict[str, Any] | None:
        """Open a run now and conduct it to its record."""
        self.run_id = open_run(self._store, self._leader.token, Trigger.MANUAL, self._store.now_us() / 1_000_000)
        if (run := self._store.runs.current()) is None or run.id != self.run_id:
            return self._store.runs.record(self.run_id)
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
