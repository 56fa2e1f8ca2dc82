"""Runs a Procfile for `rlm up` by honcho's manager: it starts the processes, and prints and multiplexes their output.

What honcho's manager does not do is added at its public seams. It asks all processes to end at the same time and kills
what is left after five seconds: `terminate` and `kill` leave that to a `ProcessGroup`, which stops the scheduler first,
then the supervisor with its workers, then the rest, each in its own grace period. It ignores a second signal: its
queue of messages is asked several times a second, and each time the group takes its next step. An embedded server is
not of the Procfile: the first process that needs it starts it, and the last one ends it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import re
import signal
from contextlib import suppress
from multiprocessing.queues import Queue
from typing import Any, Final, TextIO

from honcho.manager import SYSTEM_PRINTER_NAME, Manager
from honcho.printer import Message

from rlm.core.clock import CLOCK, isoformat
from rlm.processes.group import Member, ProcessGroup
from rlm.processes.signals import StopSignals, how_ended

#: What is stopped first and second; other entries of a Procfile are stopped after these.
STOP_ORDER = ("scheduler", "supervisor")

OWN_NAME = "up"
#: The colour of a line that needs action; a printer without colours prints it as an error.
ALARM_COLOUR = "1;31"
#: Exit statuses of a process that was asked to end: it ended by itself, or by the signal.
_EXPECTED_ENDS = frozenset({0, -signal.SIGTERM, 128 + signal.SIGTERM})

#: A log line for a person: the time, then the rest.
_DATED: Final = re.compile(r"(\d\d:\d\d:\d\d\.\d{3}) (.*)", re.DOTALL)
#: The beginning of the line in which a command of RLM explains why it fails.
_FAILED: Final = "Error: "


class Entry:
    """A process of a Procfile, as its messages tell: its id and exit status, None until they are known."""

    def __init__(self, name: str, command: str) -> None:
        self.name = name
        self.command = command
        self.pid: int | None = None
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal to its process group: the process itself is a shell, which would not pass it on."""
        if self.pid:
            with suppress(ProcessLookupError, PermissionError):  # it has just ended; macOS denies it for a dead one
                os.killpg(self.pid, sig)

    @property
    def rank(self) -> int:
        """Its place in the stop order."""
        words = {self.name, *self.command.split()}
        return next((rank for rank, word in enumerate(STOP_ORDER) if word in words), len(STOP_ORDER))


class Foreman(Manager):  # type: ignore[misc]  # honcho is not typed
    """Runs processes until a signal comes or one of them ends, then stops them all.

    `grace_seconds` is how long each has to end once it was asked to.
    """

    def __init__(self, printer: Printer, stop: StopSignals, grace_seconds: float) -> None:
        super().__init__(printer)
        self.events = _Messages(self)
        self._output = printer
        self._stop = stop
        self._group = ProcessGroup(stop, grace_seconds, self.say)
        self._entries: dict[str, Entry] = {}
        self._ending = False
        self._code: int | None = None
        self._cut = False

    def add_process(self, name: str, cmd: str, **options: Any) -> Any:
        """Add a process, which starts after those added before it."""
        entry = self._entries[name] = Entry(name, cmd)
        self._group.add(name, entry, entry.rank)
        return super().add_process(name, cmd, **options)

    def run(self) -> int:
        """Run until all have ended; return the exit code for this process.

        It is the code of the first entry that ended unasked or failed; 1 if a second signal cut the stop short; else 0.
        """
        try:
            self.loop()
        finally:
            self._group.kill()
            for reader in multiprocessing.active_children():
                reader.kill()
        return self._code if self._code is not None else int(self._cut)

    def say(self, text: str, colour: str | None = None) -> None:
        """Print a line in the foreman's own name."""
        self._output.write(Message("line", f"{text}\n", self._clock.now(), OWN_NAME, colour))

    def terminate(self) -> None:
        """Begin to stop the processes: one of them has ended, or a signal came before the first turn."""
        self._ending = True

    def kill(self) -> None:
        """Kill none: each has its own grace period."""

    def turn(self) -> None:
        """Note who has ended; during a stop, take its next step."""
        self._stop.handle()  # the loop begins by handlers of its own
        for member in self._group.reap():
            self._note_end(member)
        if self._stop.graceful or self._ending or self._output.is_gone:
            self._cut |= self._stop.immediate
            self._group.step()

    def hear(self, message: Message) -> None:
        """Note the start or the end of a process."""
        entry = self._entries[message.name]
        if message.type == "start":
            entry.pid = message.data["pid"]
        elif message.type == "stop":
            entry.returncode = message.data["returncode"]

    def lost(self, readers: frozenset[str]) -> Message | None:
        """Return the message of a process whose reader is not among the living `readers` and did not report its end.

        It could not be started, or the reader was killed.
        """
        for entry in self._entries.values():
            if entry.returncode is None and entry.name not in readers:
                kind, data = ("start", {"pid": 0}) if entry.pid is None else ("stop", {"returncode": 1})
                return Message(kind, data, self._clock.now(), entry.name, None)
        return None

    def _note_end(self, member: Member) -> None:
        code, asked = member.returncode or 0, member.asked_at is not None
        if not asked:
            self.say(f"{member.name} ended {how_ended(code)}, without having been asked to", ALARM_COLOUR)
        if self._code is None and not (asked and (code in _EXPECTED_ENDS or self._stop.immediate)):
            self._code = code if code >= 0 else 128 - code
        if self._entries[member.name].returncode is None:  # somebody else holds the output of a killed one open
            for reader in multiprocessing.active_children():  # one that has told the end may hold the queue's lock
                if reader.name == member.name:
                    reader.kill()


class _Messages(Queue):  # type: ignore[type-arg]  # it has no argument when it runs
    """The queue from which the manager's loop takes the messages of its processes, at least ten times a second."""

    def __init__(self, foreman: Foreman) -> None:
        super().__init__(ctx=multiprocessing.get_context())
        self._foreman = foreman

    def get(self, block: bool = True, timeout: float | None = None) -> Message:  # as it is there
        """Return the next message; the foreman takes a turn before."""
        readers = frozenset(one.name for one in multiprocessing.active_children())
        self._foreman.turn()
        try:
            message = super().get(block, timeout)
        except queue.Empty:
            if (lost := self._foreman.lost(readers)) is None:
                raise
            message = lost
        self._foreman.hear(message)
        return message


class Printer:
    """Replaces honcho's printer. `width` is the width of the longest name; `is_gone`: nobody can read the output."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self.width = 0
        self.is_gone = False

    def write(self, message: Message) -> None:
        """Print the lines of a message; nothing once the terminal is gone."""
        data = message.data
        text: str = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        if message.name == SYSTEM_PRINTER_NAME:
            message = message._replace(name=OWN_NAME)
        if self.is_gone:
            return
        try:
            for line in text.splitlines():
                print(self._shown(message, line), file=self._output)
            self._output.flush()
        except (OSError, ValueError):
            self.is_gone = True

    def _shown(self, message: Message, line: str) -> str:
        raise NotImplementedError


class TextPrinter(Printer):
    """Prints the time in UTC, the process and its line; a terminal breaks long lines."""

    def __init__(self, output: TextIO, *, coloured: bool) -> None:
        super().__init__(output)
        self._coloured = coloured

    def _shown(self, message: Message, line: str) -> str:
        dated = _DATED.fullmatch(line)
        moment, said = dated.groups() if dated else (isoformat(message.time.timestamp())[CLOCK], line)
        prefix = f"{moment} {message.name or '':<{self.width}} | "
        shown = f"\x1b[0m\x1b[{message.colour}m{prefix}\x1b[0m" if self._coloured and message.colour else prefix
        return f"{shown}{said}"


class JsonPrinter(Printer):
    """Passes JSON lines on unchanged; any other line becomes a JSON message."""

    def _shown(self, message: Message, line: str) -> str:
        if _is_document(line):
            return line
        failed = message.colour == ALARM_COLOUR or line.startswith(_FAILED)
        level = "ERROR" if failed else "INFO"
        own = {"action": "up"} if message.name == OWN_NAME else {}
        said_at = isoformat(message.time.timestamp())
        return json.dumps({"time": said_at, "level": level, "role": message.name, "message": line, **own})


def _is_document(line: str) -> bool:
    try:
        return line.isascii() and isinstance(json.loads(line), dict)
    except ValueError:
        return False
