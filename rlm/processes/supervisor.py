"""The supervisor's loop: run the wanted number of workers, replace dead ones, free what they held, stop them all."""

from __future__ import annotations

import logging
import os
import selectors
from dataclasses import replace

from rlm import __version__
from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.ledger import Store
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.trouble import Outage
from rlm.ledger.waker import Waker
from rlm.processes.alive import Presence, entry_of
from rlm.processes.child import QUICK_DEATH_SECONDS, Child, FrozenWatch, Launcher, Remains, StartBackoff, watch_death
from rlm.processes.sharing import Peers, offer_of
from rlm.processes.signals import StopSignals, supervisor_grace
from rlm.settings import Settings

#: Seconds of an outage of Redis until a supervisor raises the alarm: by then a living scheduler has raised it.
ALARM_SECONDS = 30.0
#: So many failed starts in a row raise an alarm.
FAILING_STARTS = 3
#: Maximum seconds between two turns, and between two looks at the wanted number, in case a wake-up was lost.
POLL_SECONDS, SCALE_SECONDS = 1.0, 4.0
#: The same look if there are other supervisors: a silent one's share is taken over.
PEERS_SECONDS = 1.0
#: Seconds until the next look if others still occupy this host's places.
CROWDED_SECONDS = 0.25

log = logging.getLogger(__name__)


class Supervisor:
    """Runs until it is told to stop. `_scale`, `_reap` and `_stop_all` make its decisions; the rest is waiting."""

    def __init__(self, store: Store, settings: Settings, launcher: Launcher, stop: StopSignals) -> None:
        self._store = store
        self._settings = settings
        self._launcher = launcher
        self._wakeup = stop.wakeup
        self._stop = stop
        started_at = system_clock.now()
        self.id = f"{settings.host_name}:{os.getpid()}:{round(started_at * 1000):x}"
        self._children: dict[str, Child] = {}
        self._remains = Remains(store)
        self._spawned = 0
        self._starts = StartBackoff()
        self._scale_at = float("-inf")
        self._crowded = False
        self._peers = Peers(store)
        entry = replace(entry_of(settings, self.id, os.getpid(), started_at), offer=offer_of(settings))
        self._presence = Presence(store, entry, lambda: list(self._children))
        self._outage = Outage(log, "supervise", lasting_seconds=ALARM_SECONDS)
        self._grace_seconds = supervisor_grace(settings)
        self._frozen = FrozenWatch(store.processes, self._children, self._grace_seconds)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def run(self) -> None:
        """Supervise until a signal, then stop the workers: gracefully, or at once after a second signal."""
        waker = Waker(self._store.url, self._store.keys.wake("supervisors"), self._wakeup.wake)
        waker.start()
        self._presence.start()
        told = "Supervisor %s (rlm %s, pid %d) is ready for up to %d workers"
        extra = {"action": "start_supervisor"}
        log.info(told, self.id, __version__, os.getpid(), self._settings.capacity, extra=extra)
        try:
            while not self._stop.graceful:
                self._turn()
        finally:
            self._hand_over()
            self._stop_all()
            waker.stop()
            self._presence.stop()
            self._sign_off()
            self._selector.close()

    def _turn(self) -> None:
        """Reap, announce, free, kill the frozen, scale, once each; then wait. Redis may be unreachable."""
        self._reap()
        try:
            with self._store.guarded():  # no content of Redis may end the supervisor
                self._presence.turn()
                self._remains.free()
                self._frozen.look()
                self._scale()
        except StoreError as error:
            self._scale_at, self._presence.lapsed = float("-inf"), True
            self._frozen.forgive()
            self._outage.tell(error, "the workers stay as they are")
        else:
            self._outage.over()
        held_back = self._starts.left_seconds
        pause = CROWDED_SECONDS if self._crowded else POLL_SECONDS
        if self._selector.select(min(pause, held_back if held_back > 0 else pause)) or held_back > 0:
            self._scale_at = float("-inf")
        self._wakeup.drain()

    def _scale(self) -> None:
        """Spawn or stop workers until as many run as this host's share of the wanted number."""
        if (now := system_clock.monotonic()) < self._scale_at:
            return
        if self._presence.lapsed:
            self._remains.succeed(self._presence.entry)
        if self._peers.look().get(self.id) is None or self._presence.lapsed:
            self._presence.say()
            self._store.processes.wake("supervisors")  # it is new or was away, and the others may have its share
            self._presence.lapsed = False
        shares = self._peers.shares(self._presence.entry)
        share = shares[self.id]
        running = [child for child in self._children.values() if not child.stopping]
        for child in self._quietest(running)[: len(running) - share] if len(running) > share else ():
            log.info("Worker %s is no longer needed", child.worker_id, extra={"action": "stop_worker"})
            child.stop()
        self._crowded = False
        if share > len(running) and self._starts.left_seconds <= 0:
            most = min(self._settings.capacity, self._peers.places_left(self._presence.entry, shares))
            missing = min(share - len(running), most - len(self._children))
            self._crowded = missing < share - len(running)
            self._grow(missing)
        alone = len(self._peers.living) == 1
        self._scale_at = now + (CROWDED_SECONDS if self._crowded else SCALE_SECONDS if alone else PEERS_SECONDS)

    def _grow(self, missing: int) -> None:
        """Spawn missing workers."""
        try:
            for _ in range(missing):
                self._spawn()
        except OSError as error:  # the host is out of processes or memory
            wait = self._starts.hold_back()
            told = "No further worker could be started (%s); trying again in %.2f s, %d are running"
            running = len(self._children)
            extra = alarm(Alarm.NO_WORKER, "start_worker", counts={"running": running})
            log.error(told, error, wait, running, extra=extra)  # noqa: TRY400  # the message contains the cause

    def _quietest(self, children: list[Child]) -> list[Child]:
        """Return children ordered by events in hand, fewest first: those stop first."""
        busy = zip(self._store.processes.busy([one.worker_id for one in children]), children, strict=True)
        return [child for _, child in sorted(busy, key=lambda pair: pair[0])]

    def _spawn(self) -> None:
        worker_id = f"{self.id}:{self._spawned + 1}"
        process = self._launcher.spawn(worker_id, self.id)
        self._spawned += 1
        crash_point("supervisor.spawned")
        child = Child(worker_id, process, watch_death(process.pid or 0))
        self._children[worker_id] = child
        if child.death is None:
            self._wakeup.wake()  # it has died already: the next turn reaps it
        else:
            self._selector.register(child.death, selectors.EVENT_READ)
        entry = entry_of(self._settings, worker_id, child.pid, system_clock.now())
        starting = replace(entry, state=WorkerState.STARTING, supervisor=self.id)
        self._store.processes.announce(Role.WORKER, starting)

    def _reap(self) -> None:
        """Reap dead children. Their claims are released next; an unexpected exit delays the replacement."""
        ready = {key.fileobj for key, _ in self._selector.select(0)}
        for child in [one for one in self._children.values() if one.death is None or one.death in ready]:
            if child.death is not None:
                self._selector.unregister(child.death)
            del self._children[child.worker_id]
            self._remains.add(child.worker_id, died=not child.cut)
            crash_point("supervisor.noticed")
            if not self._stop.graceful:
                self._remains.free_quietly()  # first, because until then nobody sends its events
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
        if child.left:  # the run has another configuration; the next may have its own
            log.info("Worker %s left by itself", child.worker_id, extra={"action": "replace_worker"})
            return
        self._remains.count(child.worker_id)
        keeps_failing = quick and self._starts.failed >= FAILING_STARTS
        level, cause = (logging.ERROR, Alarm.NO_WORKER) if keeps_failing else (logging.WARNING, Alarm.WORKER_DIED)
        told = "Worker %s (pid %d) ended unexpectedly %s; what it held is pending again, and it is replaced%s"
        extra = alarm(cause, "replace_worker", counts={"failed_starts": self._starts.failed}, worker=child.worker_id)
        log.log(level, told, child.worker_id, child.pid, ended, f" in {wait:.2f} s" if wait else "", extra=extra)

    def _hand_over(self) -> None:
        """Offer no capacity any more, so that others take this host's share without waiting for its last call."""
        entry = self._presence.entry
        self._presence.entry = replace(entry, offer=entry.offer and replace(entry.offer, capacity=0))
        try:
            self._presence.say()
            self._store.processes.wake("supervisors")
        except StoreError as error:
            log.info("The others are not told that this supervisor stops: %s", error, extra={"action": "hand_over"})

    def _stop_all(self) -> None:
        """Stop every worker gracefully; kill those left after the grace period or a second signal."""
        deadline = system_clock.monotonic() + self._grace_seconds
        for child in self._children.values():
            if not child.stopping:  # a second TERM makes a worker exit at once
                child.stop()
        while self._children:
            self._presence.go_on()
            if self._stop.immediate or system_clock.monotonic() > deadline:
                for child in (one for one in self._children.values() if not one.killed):
                    child.cut = self._stop.immediate
                    child.kill()
            self._selector.select(0.1)
            self._wakeup.drain()
            self._reap()
        self._remains.free_quietly()

    def _sign_off(self) -> None:
        try:
            self._store.processes.sign_off(Role.SUPERVISOR, self._presence.entry)
            self._store.processes.wake("supervisors")  # the others take this host's share over
        except StoreError as error:
            log.warning("The supervisor could not sign off: %s", error, extra={"action": "stop_supervisor"})
        log.info("Supervisor %s has stopped, no worker is left", self.id, extra={"action": "stop_supervisor"})
