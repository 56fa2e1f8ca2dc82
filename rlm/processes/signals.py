"""How processes are stopped: the signals that ask them to, and how long each may take.

A handler only counts signals and wakes the loop; the loop decides. Each grace period is longer than the one inside it:
a call ends within its time-out, a worker finishes its calls, a supervisor waits for its workers, its starter for it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, Self

from rlm.core.clock import system_clock
from rlm.core.files import FILE_MODE

if TYPE_CHECKING:
    from rlm.settings import Settings

log = logging.getLogger(__name__)

#: Environment variable with the path of the file that a loop touches; if it is unset or empty there is none.
ALIVE_VARIABLE: Final = "RLM_ALIVE_FILE"
#: Minimum seconds between two touches of the file. Every loop makes a turn within 5 s.
TOUCH_SECONDS: Final = 5.0


class Layer(IntEnum):
    """A process that awaits calls: a worker's own lanes, a supervisor's workers, a starter's supervisor."""

    WORKER = 1
    SUPERVISOR = 2
    GROUP = 3


#: Seconds beyond the longest call that each layer of processes adds: whoever can end by itself does so in time.
SLACK_SECONDS: Final = 2.0


def grace_seconds(settings: Settings, layer: Layer) -> float:
    """Return how long a process of this layer has to end, or what it waits for."""
    longest_call = max(endpoint.timeout_seconds for endpoint in settings.endpoints.values())
    return longest_call + layer * SLACK_SECONDS


class StopSignals:
    """The signals that ask this process to stop, and an event to select on. A context manager.

    `graceful` is true from the first TERM, INT or HUP, `immediate` from the second, or from a QUIT. Each wakes the
    loop, as does `wake`, from any thread; the loop waits, or selects and drains each turn. Inside, CHLD has its default
    handler: children inherit an ignored CHLD, and then nobody learns how a process ended.

    With `shows_life` each turn also touches the file that `RLM_ALIVE_FILE` names, of which an external health check
    needs only the age. The loop keeps running while Redis is unreachable, so an outage of Redis causes no restart.
    """

    def __init__(self, *, shows_life: bool = False) -> None:
        self.graceful = self.immediate = False
        self._alive_file = os.environ.get(ALIVE_VARIABLE, "") if shows_life else ""
        self._touches_at = float("-inf")
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._previous: dict[int, object] = {}

    def fileno(self) -> int:
        """Return the file descriptor to select on."""
        return self._event

    def wake(self) -> None:
        """Make the loop's select return. Safe in a signal handler."""
        with suppress(OSError):  # there is no loop any more
            os.eventfd_write(self._event, 1)

    def drain(self) -> None:
        """Discard all wake-ups so far."""
        if self._alive_file and (now := system_clock.monotonic()) >= self._touches_at:
            self._touches_at = now + TOUCH_SECONDS
            try:
                Path(self._alive_file).touch(FILE_MODE)
            except OSError as error:
                log.warning("%s cannot be written: %s", ALIVE_VARIABLE, error, extra={"action": "touch"})
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for a wake-up, and discard it."""
        select.select([self], [], [], max(0.0, seconds))
        self.drain()

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGQUIT or (self.graceful and signum != signal.SIGHUP):
            self.immediate = True  # a terminal that closes often sends HUP twice
        self.graceful = True
        self.wake()

    def __enter__(self) -> Self:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:  # nohup ignores it
                self._previous[signum] = signal.signal(signum, self._note)
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return self

    def __exit__(self, *_exc: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]  # the previous handler, whatever it was
        event, self._event = self._event, -1  # first: a late wake-up must not write to a reused descriptor
        os.close(event)
