"""A worker process as its supervisor sees it: its death, whether it is frozen, and what follows when its start failed.

Only the kernel says that a process is dead. Whether a living one is frozen follows from what it last said.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from rlm.core.clock import system_clock
from rlm.ledger.processes import HEARTBEAT_SECONDS, Processes, Role, WorkerState
from rlm.processes.fork import Forked
from rlm.processes.signals import how_ended

#: A worker that has not announced itself for so long is silent, seconds: even without events a heartbeat has been due
#: for a while.
SILENT_SECONDS = HEARTBEAT_SECONDS + 2.5
#: How often the supervisor looks for silent workers once there may be one, seconds.
LOOK_SECONDS = 1.0
#: A worker found silent by so many looks in a row is frozen. They take longer than from one heartbeat to the next, so
#: that all may be heard again after Redis lost the register, its clock stepped, or this host was suspended.
LOOKS = 5
#: A worker that was not ready yet is judged from this age on, seconds. It may still be coming up: on a host with too
#: much to do that takes long, and ending those who try makes it worse.
BOOT_SECONDS = 60.0
#: A worker that dies sooner than this after its start counts as a failed start, and its successor waits, seconds.
QUICK_DEATH_SECONDS = 5.0
#: The first wait after a failed start, doubled with each in a row up to the longest, seconds.
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0


class Launcher(Protocol):
    """Starts worker processes, and cleans up at their broker after them."""

    def spawn(self, worker_id: str, supervisor_id: str) -> Forked:
        """Start a worker process."""
        ...

    def forget(self, worker_id: str) -> None:
        """Delete the messages that a dead worker had fetched."""
        ...


class Death(Protocol):
    """The death of a process. `fileno` becomes readable when it has died, whoever its parent is."""

    def fileno(self) -> int:
        """Return what to select on."""
        ...

    def close(self) -> None:
        """Watch no more."""
        ...


class PidfdDeath:
    """The death of a process by its pidfd (Linux), which needs no help of its parent, the template."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Return what to select on."""
        return self._fd

    def close(self) -> None:
        """Watch no more."""
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


@dataclass(slots=True)
class Child:
    """A worker process that a supervisor has spawned; `spawned_at` and `told_at`, to stop, in monotonic seconds."""

    worker_id: str
    process: Forked
    death: Death | None
    spawned_at: float = field(default_factory=system_clock.monotonic)
    stopping: bool = False
    told_at: float = float("inf")
    killed: bool = False
    left: bool = False
    ready: bool = False  #: it came up: it was ready once
    silent_looks: int = 0  #: how many of the last looks, in a row, found it silent
    frozen: bool = False  #: it was found frozen, and told to end
    cut: bool = False  #: it was ended because all were to end at once: no event that it had is to blame

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid or 0

    def stop(self) -> None:
        """Ask it to finish what it has in flight and leave (TERM)."""
        self.stopping = True
        self.told_at = system_clock.monotonic()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now (KILL)."""
        self.stopping = self.killed = True
        self._signal(signal.SIGKILL)

    def end_frozen(self) -> None:
        """End it now (KILL), to be replaced once it has died; while it is in a system call that may take long."""
        self.frozen = True
        self._signal(signal.SIGKILL)

    def look(self, silent_seconds: float) -> bool:
        """Take what a look found, the seconds since it was last heard; return whether it is frozen."""
        self.silent_looks = self.silent_looks + 1 if silent_seconds > SILENT_SECONDS else 0
        return self.silent_looks >= LOOKS

    def _signal(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if isinstance(self.death, PidfdDeath):
                signal.pidfd_send_signal(self.death.fileno(), signum)  # never a stranger with a reused pid
            elif self.death is not None:
                os.kill(self.pid, signum)

    def reap(self) -> str:
        """Collect a dead process; return how it ended, in words."""
        if self.death is not None:
            self.death.close()
        self.process.join()
        code = self.process.exitcode
        self.left = code == 0
        if code is None:
            return "for a reason that went with its template"
        return how_ended(code)


class StartBackoff:
    """How long the next worker waits, after starts that failed."""

    def __init__(self) -> None:
        #: Failed starts in a row.
        self.failed = 0
        self._not_before = 0.0

    @property
    def left_seconds(self) -> float:
        """The time to wait; 0 or negative if the next worker may start."""
        return self._not_before - system_clock.monotonic()

    def hold_back(self) -> float:
        """Count a failed start; return the wait, seconds. Starts that fail together count as one."""
        now = system_clock.monotonic()
        if now >= self._not_before:
            self.failed += 1
            doublings = min(self.failed - 1, 30)
            self._not_before = now + min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**doublings)
        return self._not_before - now


log = logging.getLogger(__name__)


class FrozenWatch:
    """Looks at the workers of a supervisor, now and then, and kills the frozen: they are reaped as the dead are."""

    def __init__(self, processes: Processes, children: Mapping[str, Child], grace_seconds: float) -> None:
        self._processes = processes
        self._children = children
        self._grace_seconds = grace_seconds
        self._looked_at = float("-inf")
        self._silent_at = float("-inf")  #: none of those that have come up can be silent before

    def look(self) -> None:
        """Kill those that do not stop; and the frozen, if it is time to look."""
        now = system_clock.monotonic()
        for child in self._children.values():
            if child.stopping and not child.killed and now > child.told_at + self._grace_seconds:
                end_at_once(child)
        calm = now < self._silent_at and all(child.ready for child in self._children.values())
        if calm or now < self._looked_at + LOOK_SECONDS:
            return
        self._note_ready()
        judged = [one for one in self._children.values() if _is_judged(one, now)]
        heard = self._processes.silences_here(Role.WORKER, [one.worker_id for one in judged])
        self._looked_at, self._silent_at = now, now + SILENT_SECONDS - max(heard, default=0.0)
        for child, silent_seconds in zip(judged, heard, strict=True):
            if child.look(silent_seconds):
                log.warning("Worker %s is frozen and is ended", child.worker_id, extra={"action": "kill_worker"})
                child.end_frozen()

    def forgive(self) -> None:
        """Begin to count anew: nobody could be heard."""
        for child in self._children.values():
            child.silent_looks = 0

    def _note_ready(self) -> None:
        """Note who of those that were coming up has come up."""
        if all(child.ready for child in self._children.values()):
            return
        for worker in self._processes.alive(Role.WORKER):
            if worker.id in self._children and worker.state != WorkerState.STARTING:
                self._children[worker.id].ready = True


def _is_judged(child: Child, now: float) -> bool:
    """Return whether a silent worker is frozen: it is not coming up, leaving, or about to die."""
    return not child.stopping and not child.frozen and (child.ready or now > child.spawned_at + BOOT_SECONDS)


def end_at_once(child: Child) -> None:
    """Kill a worker that was told to stop."""
    log.warning("Worker %s is ended at once", child.worker_id, extra={"action": "kill_worker"})
    child.kill()
