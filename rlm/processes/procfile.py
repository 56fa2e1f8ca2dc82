"""Runs a Procfile for `rlm up` by honcho's manager: it starts the processes, and prints and multiplexes their output.

What honcho's manager does not do is added at its public seams. It kills what is left after five seconds: here a call in
flight may take longer. It ignores a second signal, and a terminal that is gone: its queue of messages is asked ten
times a second, and each time the foreman looks whether there is one. An embedded server is not of the Procfile: the
first process that needs it starts it, and the last one ends it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.queues import Queue
from typing import Any, Final, TextIO

from honcho.manager import SYSTEM_PRINTER_NAME, Manager
from honcho.printer import Message, Printer

from rlm.core.clock import isoformat, system_clock
from rlm.processes.signals import HASTE_SECONDS, StopSignals

OWN_NAME = "up"
#: Seconds to wait for a killed process: others may hold its output open.
LINGER_SECONDS: Final = 2.0


class Foreman(Manager):  # type: ignore[misc]  # honcho is not typed
    """Runs processes until a signal comes or one of them ends, then stops them all, within `grace_seconds`."""

    def __init__(self, printer: LinePrinter, stop: StopSignals, grace_seconds: float) -> None:
        super().__init__(printer)
        self.events = _Messages(self.turn)
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._end_by = float("inf")
        self._is_hurried = False

    def run(self) -> int:
        """Run until all have ended; return the exit code for this process.

        It is that of the process that ended first, unless they were asked to: then 0, or 1 if not all ended in time.
        """
        with suppress(TimeoutError):
            self.loop()
        for reader in multiprocessing.active_children():
            reader.kill()
        if self._stop.graceful or self._printer.is_gone:
            return int(system_clock.monotonic() > self._end_by or self._is_hurried)
        code = self.returncode or 0
        return code if code >= 0 else 128 - code

    def say(self, text: str) -> None:
        """Print a line in the foreman's own name."""
        self._printer.write(Message("line", f"{text}\n", self._clock.now(), OWN_NAME, None))

    def turn(self) -> None:
        """Stop the processes if there is a reason to; kill those that do not end."""
        self._stop.handle()  # the loop begins by handlers of its own
        now = system_clock.monotonic()
        if self._stop.graceful or self._printer.is_gone:
            self._end_by = min(self._end_by, now + self._grace_seconds)
            if self._all_started():
                self.terminate()
        if self._stop.immediate and not self._is_hurried:
            self._is_hurried, self._end_by = True, now + HASTE_SECONDS
            self._signal(signal.SIGQUIT)
        if now > self._end_by:
            self._signal(signal.SIGKILL)
        if now > self._end_by + LINGER_SECONDS:
            raise TimeoutError

    def terminate(self) -> None:
        """Ask all processes to end."""
        self._end_by = min(self._end_by, system_clock.monotonic() + self._grace_seconds)
        super().terminate()

    def kill(self) -> None:
        """Kill none after the manager's five seconds: `turn` does it, later."""

    def _signal(self, signum: signal.Signals) -> None:
        """Signal the groups of all processes that run: the process itself is a shell, which would not pass it on."""
        for process in self._processes.values():
            if "pid" in process and "returncode" not in process:
                with suppress(ProcessLookupError):
                    os.killpg(process["pid"], signum)


class _Messages(Queue):  # type: ignore[type-arg]  # it has no argument when it runs
    """The queue from which the manager's loop takes the messages of its processes, at least ten times a second."""

    def __init__(self, turn: Callable[[], None]) -> None:
        super().__init__(ctx=multiprocessing.get_context())
        self._turn = turn

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # as it is there
        """Return the next message; the foreman takes a turn before."""
        self._turn()
        return super().get(block, timeout)


class LinePrinter(Printer):  # type: ignore[misc]  # honcho is not typed
    """Prints the lines of all processes: with their names, or unchanged where they are JSON, and its own as JSON, too.

    `is_gone`: nobody can read the output, and nothing is written any more.
    """

    def __init__(self, output: TextIO, *, as_json: bool, coloured: bool) -> None:
        super().__init__(output, time_format="", colour=coloured, prefix=not as_json)
        self._colours_supported = coloured
        self._as_json = as_json
        self.is_gone = False

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
            self.is_gone = True
