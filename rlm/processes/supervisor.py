"""The supervisor's loop: scale to the wanted number, replace the dead, free what they held, leave none behind."""

from __future__ import annotations

import logging
import os
import selectors
from dataclasses import replace
from typing import TYPE_CHECKING

from rlm import __version__
from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.ledger import revive
from rlm.ledger.outage import Outage
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Role, Waker, WorkerState
from rlm.processes.child import BOOT_SECONDS, LOOK_SECONDS, QUICK_DEATH_SECONDS, Child, StartBackoff, watch_death
from rlm.processes.sharing import divide, offer_of
from rlm.processes.signals import supervisor_grace

if TYPE_CHECKING:
    from rlm.ledger import Store
    from rlm.processes.child import Launcher
    from rlm.processes.signals import StopSignals, Wakeup
    from rlm.settings import Settings

#: How long Redis is away before a supervisor raises the alarm as well, seconds: by then a living scheduler has.
ALARM_SECONDS = 30.0
#: After so many failed starts in a row there is an alarm.
FAILING_STARTS = 3
#: The loop goes round at least this often, and looks at the wanted number, in case a wake-up was lost, seconds.
POLL_SECONDS, SCALE_SECONDS = 1.0, 4.0

log = logging.getLogger(__name__)


class Supervisor:
    """Runs until it is told to stop. Its decisions are `_scale`, `_reap` and `_stop_all`; the rest is waiting."""

    def __init__(self, store: Store, settings: Settings, launcher: Launcher, wakeup: Wakeup, stop: StopSignals) -> None:
        self._store = store
        self._settings = settings
        self._launcher = launcher
        self._wakeup = wakeup
        self._stop = stop
        self._started_at = system_clock.now()
        self.id = f"{settings.host_name}:{os.getpid()}:{round(self._started_at * 1000):x}"
        self._children: dict[str, Child] = {}
        self._unfreed: dict[str, bool] = {}  #: whether it died, and was not ended because all were to end at once
        self._restarted: list[str] = []
        self._spawned = 0
        self._starts = StartBackoff()
        self._announced_at = self._look_at = self._scale_at = float("-inf")
        self._outage = Outage(log, "supervise", lasting_seconds=ALARM_SECONDS)
        self._grace_seconds = supervisor_grace(settings)
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeup, selectors.EVENT_READ)

    def run(self) -> None:
        """Supervise until a signal, then stop the workers: gracefully, at once on a second signal."""
        waker = Waker(self._store.url, self._store.keys.wake("supervisors"), self._wakeup.wake)
        waker.start()
        log.info(
            "Supervisor %s (rlm %s, pid %d) is ready for up to %d workers",
            self.id,
            __version__,
            os.getpid(),
            self._settings.workers.max,
            extra={"action": "start_supervisor"},
        )
        try:
            while not self._stop.graceful:
                self._turn()
        finally:
            self._stop_all()
            waker.stop()
            self._sign_off()
            self._selector.close()

    def _turn(self) -> None:
        """Reap, free, announce, end the frozen, scale, each once; then wait. Redis may be away meanwhile."""
        self._reap()
        try:
            with self._store.guarded():  # whatever stands in Redis is no reason to end
                self._free()
                self._announce()
                self._end_frozen()
                self._scale()
        except StoreError as error:
            self._announced_at = self._scale_at = float("-inf")
            for child in self._children.values():
                child.silent_looks = 0  # nobody could be heard
            self._outage.tell(error, "the workers stay as they are")
            revive(self._store)
        else:
            self._outage.over()
        held_back = self._starts.left_seconds
        if self._selector.select(min(POLL_SECONDS, held_back if held_back > 0 else POLL_SECONDS)) or held_back > 0:
            self._scale_at = float("-inf")
        self._wakeup.drain()

    def _scale(self) -> None:
        """Spawn or stop workers until as many run as this host's share of the wanted number."""
        if (now := system_clock.monotonic()) < self._scale_at:
            return
        self._scale_at = now + SCALE_SECONDS
        share = self._share()
        running = [child for child in self._children.values() if not child.stopping]
        for child in self._quietest(running)[: len(running) - share] if len(running) > share else ():
            log.info("Worker %s is no longer needed", child.worker_id, extra={"action": "stop_worker"})
            child.stop()
        if self._starts.left_seconds <= 0:
            try:
                for _ in range(share - len(running)):
                    self._spawn()
            except OSError as error:  # the host has no more processes or memory to give
                wait = self._starts.hold_back()
                log.error(  # noqa: TRY400  # the message says it all
                    "No further worker could be started (%s); tried again in %.2f s, %d are running",
                    error,
                    wait,
                    len(self._children),
                    extra=alarm(Alarm.NO_WORKER, "start_worker", counts={"running": len(self._children)}),
                )

    def _share(self) -> int:
        """Return how many of the wanted workers are this supervisor's."""
        every = {one.id: one for one in self._store.processes.alive(Role.SUPERVISOR)}
        if self.id not in every:  # a clock was set, or Redis forgot its entry
            self._announced_at = float("-inf")
            self._announce()
            every[self.id] = self._entry()
        return divide(self._store.processes.wanted(), every.values(), self._store.hosts.idle())[self.id]

    def _quietest(self, children: list[Child]) -> list[Child]:
        """Order children by how much they are doing, the quietest first: the first to go."""
        busy = zip(self._store.processes.busy([one.worker_id for one in children]), children, strict=True)
        return [child for _, child in sorted(busy, key=lambda pair: pair[0])]

    def _spawn(self) -> None:
        self._spawned += 1
        worker_id = f"{self.id}:{self._spawned}"
        process = self._launcher.spawn(worker_id, self.id)
        crash_point("supervisor.spawned")
        child = Child(worker_id, process, watch_death(process.pid or 0))
        self._children[worker_id] = child
        if child.death is None:
            self._wakeup.wake()  # it has died already: the next turn reaps it
        else:
            self._selector.register(child.death, selectors.EVENT_READ)
        facts = self._facts(worker_id, child.pid, system_clock.now())
        self._store.processes.announce(Role.WORKER, replace(facts, state=WorkerState.STARTING, supervisor=self.id))

    def _reap(self) -> None:
        """Reap dead children. Their claims are released next; an unexpected exit delays the replacement."""
        ready = {key.fileobj for key, _ in self._selector.select(0)}
        for child in [one for one in self._children.values() if one.death is None or one.death in ready]:
            if child.death is not None:
                self._selector.unregister(child.death)
            del self._children[child.worker_id]
            self._unfreed[child.worker_id] = not child.cut
            crash_point("supervisor.noticed")
            if not self._stop.graceful:
                self._free_quietly()  # first, since until then nobody sends its events
            ended = child.reap()
            if child.stopping:
                log.debug("Worker %s ended %s", child.worker_id, ended, extra={"action": "reap_worker"})
            else:
                self._note_death(child, ended)

    def _note_death(self, child: Child, ended: str) -> None:
        never_up = child.frozen and not child.ready
        quick = never_up or system_clock.monotonic() - child.spawned_at < QUICK_DEATH_SECONDS
        if not quick:
            self._starts.failed = 0
        wait = self._starts.hold_back() if quick else 0.0
        if child.left:  # for a run of another configuration; the next run may be of its own again
            log.info("Worker %s left by itself", child.worker_id, extra={"action": "replace_worker"})
            return
        self._restarted.append(child.worker_id)
        keeps_failing = quick and self._starts.failed >= FAILING_STARTS
        log.log(
            logging.ERROR if keeps_failing else logging.WARNING,
            "Worker %s (pid %d) ended unexpectedly %s; what it held is pending again, and it is replaced%s",
            child.worker_id,
            child.pid,
            ended,
            f" in {wait:.2f} s" if wait else "",
            extra=alarm(
                Alarm.NO_WORKER if keeps_failing else Alarm.WORKER_DIED,
                "replace_worker",
                counts={"failed_starts": self._starts.failed},
                worker=child.worker_id,
            ),
        )

    def _free(self) -> None:
        """Free what dead workers held: their leases, and what they had fetched. Tried again until Redis has it."""
        if self._restarted:
            self._store.processes.count_restarts(self._restarted)
            self._restarted = []
        for worker_id, died in list(self._unfreed.items()):
            self._free_worker(worker_id, died=died)
            del self._unfreed[worker_id]

    def _free_worker(self, worker_id: str, *, died: bool) -> None:
        taken = self._store.recovery.orphan_worker(worker_id, died=died)
        crash_point("supervisor.orphaned")
        self._launcher.forget(worker_id)
        crash_point("supervisor.recovered")
        self._store.processes.forget(Role.WORKER, worker_id)
        crash_point("supervisor.freed")
        if taken:
            log.info("%d events of worker %s are pending again", taken, worker_id, extra={"action": "free_events"})

    def _free_quietly(self) -> None:
        try:
            self._free()
        except StoreError as error:
            log.info("What dead workers held cannot be freed yet: %s", error, extra={"action": "free_events"})

    def _end_frozen(self) -> None:
        """Kill workers that fell silent, and those that were told to stop and do not: the next turn reaps them."""
        if (now := system_clock.monotonic()) < self._look_at:
            return
        self._note_ready()
        judged = [one for one in self._children.values() if self._is_judged(one, now)]
        heard = self._store.processes.silences_here(Role.WORKER, [one.worker_id for one in judged])
        self._look_at = now + LOOK_SECONDS
        for child, silent_seconds in zip(judged, heard, strict=True):
            if child.look(silent_seconds):
                log.warning("Worker %s is frozen and is ended", child.worker_id, extra={"action": "kill_worker"})
                child.end_frozen()
        for child in self._children.values():
            if child.stopping and not child.killed and now > child.told_at + self._grace_seconds:
                self._kill(child)

    def _note_ready(self) -> None:
        """Note who of those that were coming up has come up."""
        if all(child.ready for child in self._children.values()):
            return
        for worker in self._store.processes.alive(Role.WORKER):
            if worker.id in self._children and worker.state != WorkerState.STARTING:
                self._children[worker.id].ready = True

    @staticmethod
    def _is_judged(child: Child, now: float) -> bool:
        """Return whether a silent worker is frozen: it is not coming up, leaving, or about to die."""
        return not child.stopping and not child.frozen and (child.ready or now > child.spawned_at + BOOT_SECONDS)

    def _announce(self) -> None:
        if system_clock.monotonic() - self._announced_at < HEARTBEAT_SECONDS:
            return
        self._store.processes.announce(Role.SUPERVISOR, self._entry())
        self._store.processes.enter(Role.WORKER, list(self._children))  # they say only that they live
        self._announced_at = system_clock.monotonic()

    def _entry(self) -> Process:
        return replace(self._facts(self.id, os.getpid(), self._started_at), offer=offer_of(self._settings))

    def _facts(self, process_id: str, pid: int, started_at: float) -> Process:
        return Process(
            id=process_id,
            pid=pid,
            host=self._settings.host_name,
            started_at=started_at,
            threads=self._settings.workers.threads,
            revision=self._settings.revision,
            version=__version__,
        )

    def _stop_all(self) -> None:
        """Stop every worker: gracefully until the grace period ends or a second signal comes, then at once."""
        deadline = system_clock.monotonic() + self._grace_seconds
        for child in self._children.values():
            if not child.stopping:  # a second TERM makes a worker leave at once
                child.stop()
        while self._children:
            if self._stop.immediate or system_clock.monotonic() > deadline:
                for child in (one for one in self._children.values() if not one.killed):
                    child.cut = self._stop.immediate
                    self._kill(child)
            self._selector.select(0.1)
            self._wakeup.drain()
            self._reap()
        self._free_quietly()

    def _kill(self, child: Child) -> None:
        log.warning("Worker %s is ended at once", child.worker_id, extra={"action": "kill_worker"})
        child.kill()

    def _sign_off(self) -> None:
        try:
            self._store.processes.forget(Role.SUPERVISOR, self.id)
            self._store.processes.wake("supervisors")  # the others take this host's share over
        except StoreError as error:
            log.warning("The supervisor could not sign off: %s", error, extra={"action": "stop_supervisor"})
        log.info("Supervisor %s has stopped, no worker is left", self.id, extra={"action": "stop_supervisor"})
