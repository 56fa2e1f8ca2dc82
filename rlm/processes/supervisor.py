"""The supervisor's loop: run the wanted number of workers, replace dead ones, free what they held, stop them all."""

from __future__ import annotations

import logging
import os
import selectors
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess

import msgspec
from msgspec.structs import replace

from rlm import __version__
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.ledger.leases import Present, present
from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Offer, Process, Role, WorkerState
from rlm.ledger.store import Store
from rlm.ledger.waker import Outage, Waker
from rlm.processes.sharing import divide, entry_of, places_left, serving
from rlm.processes.signals import Layer, StopSignals, grace_seconds

#: Maximum seconds between two turns, and while others still have this host's places or Redis is away.
POLL_SECONDS, CROWDED_SECONDS = 2.0, 0.25
#: A worker that is silent for so long is frozen; one that was never ready later, for on a busy host a start takes long.
FROZEN_SECONDS, BOOT_SECONDS = 15.0, 60.0
#: A worker that dies within so many seconds failed to start. Its successor waits.
QUICK_DEATH_SECONDS, RESTART_SECONDS = 5.0, 1.0

log = logging.getLogger(__name__)


class Child(msgspec.Struct):
    """A worker process of a supervisor. Its moments are monotonic seconds."""

    worker_id: str
    process: BaseProcess
    pidfd: int  #: readable once it has died
    spawned_at: float
    heard_at: float  #: when it was last heard, or could have been
    was_ready: bool = False
    end_by: float = float("inf")  #: when it must have ended, once it was told to

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self.end_by != float("inf")

    def stop(self, seconds: float) -> None:
        """Ask it to finish its calls in flight and exit within `seconds`."""
        self.end_by = system_clock.monotonic() + seconds
        self._signal(signal.SIGTERM)

    def kill(self, why: str) -> None:
        """Kill it. Inside a system call it may take long to die."""
        log.warning("Worker %s %s and is ended at once", self.worker_id, why, extra={"action": "kill_worker"})
        self._signal(signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signum)  # by the pid it might reach another process


class Supervisor:
    """Runs until it is told to stop. `_scale`, `_bury` and `_judge` make its decisions; the rest is waiting."""

    def __init__(self, store: Store, spawn: Callable[[str, str], BaseProcess], stop: StopSignals) -> None:
        """Supervise workers on `store`; `spawn` starts one, given its id and that of its supervisor."""
        self._store = store
        settings = store.settings
        self._spawn_worker = spawn
        self._stop = stop
        started_at = system_clock.now()
        self.id = f"{settings.host_name}:{os.getpid()}:{round(started_at * 1000):x}"
        offer = Offer(settings.capacity, settings.workers.min, settings.workers.max)
        self._entry = replace(entry_of(settings, self.id, os.getpid(), started_at), offer=offer)
        self._children: dict[str, Child] = {}
        self._dead: list[Child] = []  #: whose events are not free yet
        self._spawned = 0
        self.is_deputy = False  #: whether it speaks for a leader
        self._trouble = ""  #: what keeps workers from their work, if anything
        self._start_at = float("-inf")  #: when the next worker may start
        self._said_at = float("-inf")  #: when it last announced itself
        self._listened_at = float("-inf")  #: when it last read the register
        self._outage = Outage(log, "supervise")
        self._selector = selectors.DefaultSelector()
        self._selector.register(stop, selectors.EVENT_READ)

    def run(self) -> None:
        """Supervise until a signal, then stop the workers: gracefully, or at once after a second signal."""
        waker = Waker(self._store.url, self._store.keys.wake("supervisors"), self._stop.wake)
        waker.start()
        message, room = "Supervisor %s (rlm %s, pid %d) is ready for up to %d workers", self._store.settings.capacity
        log.info(message, self.id, __version__, os.getpid(), room, extra={"action": "start_supervisor"})
        pause = 0.0
        try:
            while self._children or not self._stop.graceful:
                for key, _ in self._selector.select(pause):
                    if key.data:
                        self._bury(key.data)
                self._stop.drain()
                self._end()
                pause = self._turn()
        finally:
            for child in self._children.values():  # only after an error of this loop
                child.stop(0.0)
            waker.stop()
            try:
                self._store.processes.forget(Role.SUPERVISOR, self.id)
            except StoreError as error:
                log.warning("The supervisor could not sign off: %s", error, extra={"action": "stop_supervisor"})
            self._selector.close()
        log.info("Supervisor %s has stopped, no worker is left", self.id, extra={"action": "stop_supervisor"})

    def _turn(self) -> float:
        """Free what dead workers held, announce, judge and scale; return when to look again, seconds."""
        pause = POLL_SECONDS
        try:
            with self._store.guarded():  # no content of Redis may end the supervisor
                self._free()
                self._announce()
                there = present(self._store)
                self.is_deputy = there.deputy == self.id
                self._judge(there.living(Role.WORKER))
                if not self._stop.graceful:
                    pause = self._scale(there)
        except StoreError as error:
            self._outage.tell(error, "the workers stay as they are")
            pause = CROWDED_SECONDS  # it is missed as soon as Redis answers again
        else:
            self._outage.over()
        return pause

    def _end(self) -> None:
        """End who takes too long to stop; once this process is asked to stop, tell all to."""
        now, grace = system_clock.monotonic(), grace_seconds(self._store.settings, Layer.SUPERVISOR)
        for child in self._children.values():
            if self._stop.immediate:
                child.kill("is not to finish its calls")
            elif now > child.end_by:
                child.kill(f"has not ended in {grace:g} s")
            elif self._stop.graceful and not child.is_stopping:
                child.stop(grace)

    def _announce(self) -> None:
        """Announce this supervisor if that is due or news; a stopping one offers nothing, so that others take over.

        News wake the others.
        """
        offer, now = None if self._stop.graceful else self._entry.offer, system_clock.monotonic()
        entry = replace(self._entry, offer=offer, trouble=self._trouble)
        is_news = entry != self._entry or now > self._said_at + HEARTBEAT_TTL_SECONDS
        if is_news or now >= self._said_at + HEARTBEAT_SECONDS:
            self._store.processes.announce(Role.SUPERVISOR, entry)
            if is_news:
                self._store.processes.wake("supervisors")
            self._entry, self._said_at = entry, now

    def _judge(self, workers: list[Process]) -> None:
        """Kill a worker that was silent for too long, all of it while this process listened."""
        now, entries = system_clock.monotonic(), {worker.id: worker for worker in workers}
        is_deaf = now > self._listened_at + HEARTBEAT_SECONDS  # Redis was away, or this host suspended
        if is_deaf and self._listened_at > float("-inf"):  # so were other hosts: they enter themselves again
            self._start_at = max(self._start_at, now + HEARTBEAT_SECONDS)
        self._listened_at = now
        for child in self._children.values():
            entry = entries.get(child.worker_id)
            if entry is not None and entry.state != WorkerState.STARTING:
                child.was_ready, child.heard_at = True, max(child.heard_at, entry.said_at)
                if now > child.spawned_at + QUICK_DEATH_SECONDS:
                    self._trouble = ""
            if is_deaf:
                child.heard_at = now
            patience = FROZEN_SECONDS if child.was_ready else BOOT_SECONDS
            if not child.is_stopping and now > child.heard_at + patience:
                child.kill("is frozen")
                child.heard_at = now  # inside a system call it may take long to die

    def _scale(self, there: Present) -> float:
        """Stop workers, or spawn one, if this host's share is another number; return when to look again, seconds."""
        now = system_clock.monotonic()
        supervisors = {each.id: each for each in there.living(Role.SUPERVISOR)} | {self.id: self._entry}
        offers = serving(supervisors.values(), there.lease.revision)
        shares = divide(there.wanted, offers)
        share = shares.get(self.id, 0)
        running = [child for child in self._children.values() if not child.is_stopping]
        # The run counts on nobody who is silent, so neither does this: a worker may be frozen long before it is killed.
        running = [child for child in running if not child.was_ready or now < child.heard_at + HEARTBEAT_TTL_SECONDS]
        running.sort(key=lambda child: child.heard_at, reverse=True)  # the longest silent leaves first
        for child in running[share:]:
            log.info("Worker %s is no longer needed", child.worker_id, extra={"action": "stop_worker"})
            child.stop(grace_seconds(self._store.settings, Layer.SUPERVISOR))
        if len(running) >= share:
            return POLL_SECONDS
        if now < self._start_at:
            return min(POLL_SECONDS, self._start_at - now)
        room = places_left(self.id, shares, offers, there.living(Role.WORKER))
        if len(self._children) >= min(self._store.settings.capacity, room):
            return CROWDED_SECONDS
        try:
            self._spawn()
        except (OSError, EOFError) as error:  # the host is out of processes or memory
            self._trouble = f"no worker can be started on {self._entry.host} ({error})"
            self._start_at = now + RESTART_SECONDS
            message = "No further worker could be started (%s), %d are running"
            log.warning(message, error, len(running), extra={"action": "start_worker"})
        return 0.0  # others may have started some meanwhile

    def _spawn(self) -> None:
        worker_id = f"{self.id}:{self._spawned + 1}"
        process = self._spawn_worker(worker_id, self.id)
        self._spawned += 1
        crash_point("supervisor.spawned")
        pid, now = process.pid or 0, system_clock.monotonic()
        child = Child(worker_id, process, os.pidfd_open(pid), now, now)
        self._children[worker_id] = child
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        entry = entry_of(self._store.settings, worker_id, pid, system_clock.now())
        starting = replace(entry, state=WorkerState.STARTING, supervisor=self.id)
        self._store.processes.announce(Role.WORKER, starting)

    def _bury(self, child: Child) -> None:
        """Note that a worker is dead, and say how it ended."""
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._children[child.worker_id]
        self._dead.append(child)
        crash_point("supervisor.noticed")
        child.process.join(1.0)  # its template says how it ended
        code, now = child.process.exitcode, system_clock.monotonic()
        signals = {each.value: each.name for each in signal.Signals}  # without those of real time
        ended = f"by {signals.get(-code, f'signal {-code}')}" if code and code < 0 else f"with exit status {code}"
        if child.is_stopping:
            log.debug("Worker %s ended %s", child.worker_id, ended, extra={"action": "reap_worker"})
            return
        if not child.was_ready or now < child.spawned_at + QUICK_DEATH_SECONDS:
            self._trouble = f"workers end as they start on {self._entry.host}, the last {ended}"
            self._start_at = now + RESTART_SECONDS
        message = "Worker %s (pid %d) ended unexpectedly %s; what it held is pending again, and it is replaced"
        extra = {"action": "replace_worker", "worker": child.worker_id}
        log.warning(message, child.worker_id, child.process.pid, ended, extra=extra)

    def _free(self) -> None:
        """Free what dead workers held: until then nobody sends it. What fails stays for the next turn."""
        while self._dead:
            child = self._dead[0]
            # If it was killed by an immediate stop none of its events is to blame.
            freed = self._store.ledger.reap(child.worker_id, died=not self._stop.immediate)
            crash_point("supervisor.orphaned")
            self._store.processes.forget(Role.WORKER, child.worker_id)
            crash_point("supervisor.freed")
            if not child.is_stopping:
                self._store.processes.count_restart()
            if freed:
                message = "%d events of worker %s are pending again"
                log.info(message, freed, child.worker_id, extra={"action": "free_events"})
            del self._dead[0]
