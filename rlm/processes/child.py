"""A worker process seen by its supervisor: whether it is frozen, its death, what it held, when the next may start.

Only the kernel reports a death. Whether a living worker is frozen follows from the age of its last announcement.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.ledger import Store
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Processes, Role, WorkerState
from rlm.processes.alive import is_dead
from rlm.processes.fork import Forked
from rlm.processes.signals import how_ended

#: A worker whose last announcement is older is silent, seconds. Even idle workers send a heartbeat earlier.
SILENT_SECONDS = HEARTBEAT_SECONDS + 2.5
#: Seconds between two looks for silent workers. A worker found silent by two looks in a row is frozen: between them
#: each can be heard again after Redis lost the register, its clock stepped, or this host was suspended.
LOOK_SECONDS = HEARTBEAT_SECONDS + 0.5
#: Seconds after which a worker that was never ready is judged. On an overloaded host a start takes long, and killing
#: workers that are still starting makes it worse.
BOOT_SECONDS = 60.0
#: A worker that dies within so many seconds of its start counts as a failed start, and its successor waits.
QUICK_DEATH_SECONDS = 5.0
#: Seconds to wait after a failed start; doubled with each failed start in a row, up to the longest wait.
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0

log = logging.getLogger(__name__)


class Launcher(Protocol):
    """Starts worker processes: a `rlm.processes.fork.Template` of them."""

    def spawn(self, worker_id: str, supervisor_id: str) -> Forked:
        """Start a worker process."""


class Death(Protocol):
    """The death of a process. `fileno` becomes readable when the process has died, whoever its parent is."""

    def fileno(self) -> int:
        """Return the file descriptor to select on."""

    def close(self) -> None:
        """Stop watching."""


class PidfdDeath:
    """The death of a process by its pidfd (Linux); its parent, the template, is not needed."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Return the file descriptor to select on."""
        return self._fd

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)


def watch_death(pid: int) -> Death | None:
    """Watch a process for its death; return None if it has died already."""
    try:
        if sys.platform == "darwin":
            queue = select.kqueue()
            flags = select.KQ_EV_ADD | select.KQ_EV_ONESHOT
            queue.control([select.kevent(pid, select.KQ_FILTER_PROC, flags, select.KQ_NOTE_EXIT)], 0)
            return queue
        return PidfdDeath(pid)
    except ProcessLookupError:
        return None


class Child(msgspec.Struct):
    """A worker process of a supervisor. `spawned_at` and `told_at`, when it was told to stop, are monotonic seconds."""

    worker_id: str
    process: Forked
    death: Death | None
    spawned_at: float = msgspec.field(default_factory=system_clock.monotonic)
    stopping: bool = False
    told_at: float = float("inf")
    killed: bool = False
    left: bool = False
    ready: bool = False  #: it was ready at least once
    silent: bool = False  #: the last look found it silent
    frozen: bool = False  #: it was found frozen, and was killed
    cut: bool = False  #: it was killed by an immediate stop: none of its events is to blame

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid or 0

    def stop(self) -> None:
        """Ask it to finish its calls in flight and exit (TERM)."""
        self.stopping = True
        self.told_at = system_clock.monotonic()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it: it was told to stop, or all are to stop at once."""
        log.warning("Worker %s is ended at once", self.worker_id, extra={"action": "kill_worker"})
        self.stopping = self.killed = True
        self._signal(signal.SIGKILL)

    def end_frozen(self) -> None:
        """Kill it so that it is replaced once it has died. Inside a system call it may take long to die."""
        self.frozen = True
        self._signal(signal.SIGKILL)

    def look(self, silent_seconds: float) -> bool:
        """Note for how long it has been silent at a look; return whether it is frozen."""
        before, self.silent = self.silent, silent_seconds > SILENT_SECONDS
        return before and self.silent

    def _signal(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if isinstance(self.death, PidfdDeath):
                signal.pidfd_send_signal(self.death.fileno(), signum)  # safe if the pid is reused
            elif self.death is not None:
                os.kill(self.pid, signum)

    def reap(self) -> str:
        """Collect a dead process; return how it ended, in words."""
        if self.death is not None:
            self.death.close()
        self.process.join()
        code = self.process.exitcode
        self.left = code == 0
        return "for a reason that only its template knew, which ended, too" if code is None else how_ended(code)


class StartBackoff:
    """The delay of the next start after failed starts."""

    def __init__(self) -> None:
        #: Failed starts in a row.
        self.failed = 0
        self._not_before = 0.0

    @property
    def left_seconds(self) -> float:
        """Seconds to wait; 0 or negative if the next worker may start."""
        return self._not_before - system_clock.monotonic()

    def hold_back(self) -> float:
        """Count a failed start; return the wait in seconds. Starts that fail during one wait count as one."""
        now = system_clock.monotonic()
        if now >= self._not_before:
            self.failed += 1
            doublings = min(self.failed - 1, 30)
            self._not_before = now + min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**doublings)
        return self._not_before - now


class FrozenWatch:
    """Looks at a supervisor's workers from time to time and kills frozen ones; they are reaped like any dead worker."""

    def __init__(self, processes: Processes, children: Mapping[str, Child], grace_seconds: float) -> None:
        self._processes = processes
        self._children = children
        self._grace_seconds = grace_seconds
        self._looked_at = float("-inf")

    def look(self) -> None:
        """Kill the workers that do not stop in time; if a look is due, kill the frozen ones too."""
        now = system_clock.monotonic()
        for child in self._children.values():
            if child.stopping and not child.killed and now > child.told_at + self._grace_seconds:
                child.kill()
        if now < self._looked_at + LOOK_SECONDS:
            return
        if not all(child.ready for child in self._children.values()):
            self._note_ready()
        judged = [one for one in self._children.values() if _is_judged(one, now)]
        heard = self._processes.silences_here(Role.WORKER, [one.worker_id for one in judged])
        self._looked_at = now
        for child, silent_seconds in zip(judged, heard, strict=True):
            if child.look(silent_seconds):
                log.warning("Worker %s is frozen and is ended", child.worker_id, extra={"action": "kill_worker"})
                child.end_frozen()

    def forgive(self) -> None:
        """Forget who was silent: while Redis was away nobody could be heard."""
        for child in self._children.values():
            child.silent = False

    def _note_ready(self) -> None:
        for worker in self._processes.alive(Role.WORKER):
            if worker.id in self._children and worker.state != WorkerState.STARTING:
                self._children[worker.id].ready = True


def _is_judged(child: Child, now: float) -> bool:
    """Return whether a silent worker counts as frozen: it is not starting, stopping or already killed."""
    return not child.stopping and not child.frozen and (child.ready or now > child.spawned_at + BOOT_SECONDS)


class Remains:
    """What dead workers held until it is freed: their events."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unfreed: dict[str, bool] = {}
        self._restarted = 0
        #: Dead workers of a dead supervisor, by the id of that supervisor.
        self._bereft: dict[str, set[str]] = {}

    def add(self, worker_id: str, *, died: bool) -> None:
        """Note a dead worker. `died` is False if an immediate stop killed it: then none of its events is to blame."""
        self._unfreed[worker_id] = died

    def count(self) -> None:
        """Note that a worker ended unexpectedly."""
        self._restarted += 1

    def free(self) -> None:
        """Release the events of dead workers. What fails stays for the next call."""
        if self._restarted:
            self._store.processes.count_restarts(self._restarted)
            self._restarted = 0
        for worker_id, died in list(self._unfreed.items()):
            self._free_worker(worker_id, died=died)
            del self._unfreed[worker_id]

    def free_quietly(self) -> None:
        """Do the same; if Redis fails, leave it for later."""
        try:
            self.free()
        except StoreError as error:
            log.info("What dead workers held cannot be freed yet: %s", error, extra={"action": "free_events"})

    def succeed(self, own: Process) -> None:
        """Free what the workers of dead supervisors on the host of `own` held, if they died too.

        Both leave the register. Otherwise they would keep their places and their share until they count as lost, which
        takes much longer.
        """
        processes = self._store.processes
        dead = {one.id: one for one in processes.alive(Role.SUPERVISOR) if one.id != own.id and _died_here(one, own)}
        workers = [one for one in processes.alive(Role.WORKER) if one.supervisor in dead and _died_here(one, own)]
        for worker in workers:
            self._bereft.setdefault(worker.supervisor, set()).add(worker.id)
            self.add(worker.id, died=True)
        self.free()
        for one in dead.values():
            processes.sign_off(Role.SUPERVISOR, one)
            told = "Supervisor %s was killed, and %d of its workers are dead; what they held is pending again"
            extra = alarm(Alarm.PROCESS_DIED, "succeed")
            log.warning(told, one.id, len(self._bereft.pop(one.id, ())), extra=extra)

    def _free_worker(self, worker_id: str, *, died: bool) -> None:
        taken = self._store.recovery.reap(worker_id, died=died)
        crash_point("supervisor.orphaned")
        self._store.processes.forget(Role.WORKER, worker_id)
        crash_point("supervisor.freed")
        if taken:
            log.info("%d events of worker %s are pending again", taken, worker_id, extra={"action": "free_events"})


def _died_here(process: Process, own: Process) -> bool:
    """Return whether a process is dead and its pid counts in the PID namespace of `own`, the calling process."""
    return bool(own.pids) and process.pids == own.pids and is_dead(process.pid)
