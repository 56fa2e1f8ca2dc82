"""Runs a Procfile for `rlm up` by honcho's manager: it starts the processes, and prints and multiplexes their output.

What the manager does not do is added at its public seams. It kills what is left after five seconds: here a call in
flight may take longer. It ignores a second signal, and a terminal that is gone.
"""

from __future__ import annotations

import json
import os
import signal
from types import FrameType
from typing import TextIO

from honcho import manager
from honcho.manager import SYSTEM_PRINTER_NAME, Manager
from honcho.printer import Message, Printer

from rlm.core.clock import isoformat

OWN_NAME = "up"
#: Seconds until a signal that came while the processes were started is looked at again.
_AGAIN_SECONDS = 0.1


class Foreman(Manager):  # type: ignore[misc]  # honcho is not typed
    """Runs processes until a signal comes or one of them ends, then stops them all, within `grace_seconds`."""

    _terminating: bool

    def __init__(self, printer: LinePrinter, grace_seconds: float) -> None:
        super().__init__(printer)
        manager.KILL_WAIT = grace_seconds
        self._is_asked = False

    def run(self) -> int:
        """Run until all have ended; return the exit code: that of the first to end, or 0 after a signal."""
        self.loop()
        code = 0 if self._is_asked else self.returncode or 0
        return code if code >= 0 else 128 - code

    def say(self, text: str) -> None:
        """Print a line in the foreman's own name."""
        self._printer.write(Message("line", f"{text}\n", self._clock.now(), OWN_NAME, None))

    def _start(self) -> None:
        for signum in (signal.SIGHUP, signal.SIGQUIT):  # those who read the output end with their processes
            signal.signal(signum, signal.SIG_IGN)
        super()._start()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM):
            signal.signal(signum, self._end)

    def _end(self, signum: int, _frame: FrameType | None) -> None:
        """Ask all processes to end, each time; a second TERM ends them at once, and with them their calls."""
        self._is_asked = True
        if not self._all_started():
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        elif signum != signal.SIGHUP or not self._terminating:  # a terminal that closes often sends it twice
            self._terminating = False
            self.terminate()


class LinePrinter(Printer):  # type: ignore[misc]  # honcho is not typed
    """Prints the lines of all processes: with their names, or unchanged where they are JSON, and its own as JSON, too.

    If nobody can read the output any more, all processes are stopped.
    """

    def __init__(self, output: TextIO, *, as_json: bool, coloured: bool) -> None:
        super().__init__(output, time_format="", colour=coloured, prefix=not as_json)
        self._colours_supported = coloured
        self._as_json = as_json

    def write(self, message: Message) -> None:
        """Print the lines of a message."""
        if message.name in {SYSTEM_PRINTER_NAME, OWN_NAME}:
            message = message._replace(name=OWN_NAME)
            if self._as_json:
                facts = {"time": isoformat(message.time.timestamp()), "level": "INFO", "role": OWN_NAME}
                message = message._replace(data=json.dumps({**facts, "message": message.data.strip(), "action": "up"}))
        try:
            super().write(message)
        except (OSError, ValueError):
            os.kill(os.getpid(), signal.SIGHUP)
