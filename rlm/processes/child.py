"""One worker process as its supervisor sees it: spawned from the template, signalled, watched by the kernel alone."""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rlm.core.clock import system_clock

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


class Death(Protocol):
    """Tells when a process has died. `fileno` becomes readable then, whoever its parent is."""

    def fileno(self) -> int:
        """Return what to select on."""
        ...

    def close(self) -> None:
        """Watch no more."""
        ...


class PidfdDeath:
    """The death of a process by its pidfd (Linux).

    Not by multiprocessing's sentinel: that notice comes through the template, and when the template is killed, it
    reports living workers as dead.
    """

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Return what to select on."""
        return self._fd

    def close(self) -> None:
        """Watch no more."""
        os.close(self._fd)


if sys.platform == "darwin":

    class KqueueDeath:
        """The death of a process by a kqueue (macOS)."""

        def __init__(self, pid: int) -> None:
            self._queue = select.kqueue()
            exit_event = select.kevent(
                pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT
            )
            self._queue.control([exit_event], 0)

        def fileno(self) -> int:
            """Return what to select on."""
            return self._queue.fileno()

        def close(self) -> None:
            """Watch no more."""
            self._queue.close()


def watch_death(pid: int) -> Death | None:
    """Watch a process for its death; None when it has died already."""
    try:
        if sys.platform == "darwin":
            return KqueueDeath(pid)
        return PidfdDeath(pid)
    except ProcessLookupError:
        return None


@dataclass(slots=True)
class Child:
    """A worker process that a supervisor has spawned; `spawned_at` and `told_at`, to stop, in monotonic seconds."""

    worker_id: str
    process: BaseProcess
    death: Death | None
    spawned_at: float = field(default_factory=system_clock.monotonic)
    stopping: bool = False
    told_at: float = float("inf")
    killed: bool = False
    left: bool = False
    ready: bool = False  #: it came up: it was ready once
    frozen: bool = False  #: it was found frozen, and told to end
    cut: bool = False  #: it was ended because somebody wanted all to end at once, which is no fault of what it had

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
        """End it now (KILL), as one that has died: it is to be replaced when it has. In a system call it may not."""
        self.frozen = True
        self._signal(signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if isinstance(self.death, PidfdDeath):
                signal.pidfd_send_signal(self.death.fileno(), signum)  # never a stranger with a reused pid
            elif self.death is not None:
                os.kill(self.pid, signum)

    def reap(self) -> str:
        """Take leave of a dead process; return how it ended, in words."""
        if self.death is not None:
            self.death.close()
        self.process.join(0.05)
        code = self.process.exitcode
        self.left = code == 0
        if code is None or code == 255:  # noqa: PLR2004  # what the template's own death makes of it
            return "for a reason that went with its template"
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
