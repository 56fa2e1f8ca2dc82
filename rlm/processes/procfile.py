"""Runs a Procfile for `rlm up`: starts its processes, prints their output, stops them in the right order.

Honcho runs each entry and reads its lines; the loop and the stop are RLM's own. Honcho's manager stops all entries at
once, kills what is left after five seconds, and ignores a second signal. Here a `ProcessGroup` stops the scheduler
first, then the supervisor with its workers, then the rest.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Final, TextIO

from honcho.printer import Message, Printer
from honcho.process import Process

from rlm.core.clock import CLOCK, Clock, isoformat, system_clock
from rlm.processes.group import Member, ProcessGroup
from rlm.processes.signals import StopSignals, how_ended

#: What is stopped first and second; other entries of a Procfile are stopped after these.
STOP_ORDER = ("scheduler", "supervisor")
#: Maximum seconds between two turns of the loop.
POLL_SECONDS = 0.1

OWN_NAME = "up"
_OWN_COLOUR = "37;1"
#: The colour of a line that needs action; a printer without colours prints it as an error.
ALARM_COLOUR = "1;31"
#: Exit statuses of a process that was asked to end: it ended by itself, or by the signal.
_EXPECTED_ENDS = frozenset({0, -signal.SIGTERM, 128 + signal.SIGTERM})

#: A log line for a person: the time, then the rest.
_DATED: Final = re.compile(r"(\d\d:\d\d:\d\d\.\d{3}) (.*)", re.DOTALL)
#: The beginning of the line in which a command of RLM explains why it fails.
_FAILED: Final = "Error: "


class Entry:
    """A process of a Procfile. Messages report its start, its output and its end.

    Honcho runs it through a shell in its own session, with stdout and stderr in one stream.
    """

    def __init__(self, name: str, command: str, env: Mapping[str, str], cwd: Path, colour: str) -> None:
        self.name = name
        self.command = command
        #: Its process id and exit status, once the foreman has received them.
        self.pid: int | None = None
        self.returncode: int | None = None
        self._process = Process(command, name=name, colour=colour, env=dict(env), cwd=str(cwd))

    def start(self, report: Callable[[Message], None]) -> None:
        """Start it in a thread that reads its output to the end and calls `report` for each message."""
        threading.Thread(target=self._run, args=(report,), name=self.name, daemon=True).start()

    def _run(self, report: Callable[[Message], None]) -> None:
        try:
            self._process.run(SimpleNamespace(put=report))  # honcho only puts messages into its queue
        except OSError as error:
            report(_message("line", f"cannot be started: {error}\n", self.name))
            report(_message("stop", {"returncode": 1}, self.name))

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal to its process group: the process itself is a shell, which would not pass it on."""
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):  # it has just ended; macOS denies it for a dead one
                os.killpg(self.pid, sig)

    @property
    def rank(self) -> int:
        """Its place in the stop order."""
        words = {self.name, *self.command.split()}
        return next((rank for rank, word in enumerate(STOP_ORDER) if word in words), len(STOP_ORDER))


class Foreman:
    """Runs entries until a signal comes or one of them ends, then stops them all.

    Entries start in the given order. `grace_seconds` is how long each has to end once it was asked to.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        printer: Printer,
        stop: StopSignals,
        grace_seconds: float,
        clock: Clock = system_clock,
    ) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._printer = printer
        self._printer.width = max(map(len, [OWN_NAME, *self._entries]))
        self._wakeup = stop.wakeup
        self._stop = stop
        self._group = ProcessGroup(stop, grace_seconds, self.say, clock)
        for entry in entries:
            self._group.add(entry.name, entry, entry.rank)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._mute = False
        self._code: int | None = None
        self._cut = False

    def run(self) -> int:
        """Run until all have ended; return the exit code for this process.

        It is the code of the first entry that ended unasked or failed; 1 if a second signal cut the stop short; else 0.
        """
        for entry in self._entries.values():
            entry.start(self._report)
        try:
            while self._group.left:
                self._wakeup.wait(POLL_SECONDS)
                self._turn()
        finally:
            self._group.kill()
        return self._code if self._code is not None else int(self._cut)

    def say(self, text: str, colour: str = _OWN_COLOUR) -> None:
        """Print a line in the foreman's own name."""
        self._print(_message("line", f"{text}\n", OWN_NAME, colour))

    def _report(self, message: Message) -> None:
        self._messages.put(message)
        self._wakeup.wake()

    def _turn(self) -> None:
        """Process all messages and ended entries; during a stop, take its next step."""
        with suppress(queue.Empty):
            while True:
                self._hear(self._messages.get_nowait())
        for member in self._group.reap():
            self._note_end(member)
        if self._stop.graceful or self._code is not None or self._mute:
            self._cut |= self._stop.immediate
            self._group.step()

    def _hear(self, message: Message) -> None:
        entry = self._entries[message.name]
        if message.type == "start":
            entry.pid = message.data["pid"]
            self.say(f"{message.name} started (pid {entry.pid})")
        elif message.type == "stop":
            entry.returncode = message.data["returncode"]
        else:
            self._print(message)

    def _note_end(self, member: Member) -> None:
        code, asked = member.returncode or 0, member.asked_at is not None
        ended = f"{member.name} ended {how_ended(code)}"
        if asked:
            self.say(ended)
        else:
            self.say(f"{ended}, without having been asked to", ALARM_COLOUR)
        if self._code is None and not (asked and (code in _EXPECTED_ENDS or self._stop.immediate)):
            self._code = code if code >= 0 else 128 - code

    def _print(self, message: Message) -> None:
        """Print a line. If the terminal is gone, print nothing more; then everything is stopped."""
        if not self._mute:
            try:
                self._printer.write(message)
            except (OSError, ValueError):
                self._mute = True


def _message(kind: str, data: object, name: str, colour: str | None = None) -> Message:
    moment = datetime.fromtimestamp(system_clock.now(), UTC).astimezone()
    return Message(type=kind, data=data, time=moment, name=name, colour=colour)


class _Printer:
    """Replaces honcho's printer. `width` is the width of the longest name."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self.width = 0

    def write(self, message: Message) -> None:
        """Print the lines of a message."""
        data = message.data
        text: str = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        for line in text.splitlines():
            print(self._shown(message, line), file=self._output)
        self._output.flush()

    def _shown(self, message: Message, line: str) -> str:
        raise NotImplementedError


class TextPrinter(_Printer):
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


class JsonPrinter(_Printer):
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
