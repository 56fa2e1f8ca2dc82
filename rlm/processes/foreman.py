"""The foreman of `rlm up`: starts the processes of a Procfile, shows what they say, stops them in the right order.

Honcho runs each entry and prints its lines; the loop is our own. Honcho's manager stops all at the same moment, kills
what is left after five seconds whatever it does, and passes over a second signal. Here the scheduler ends first, then
the supervisor with its workers, then anything else, each in its own time, and a second signal ends all of them at once.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from honcho.printer import Message, Printer
from honcho.process import Process

from rlm.core.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rlm.core.clock import Clock
    from rlm.processes.signals import StopSignals, Wakeup

#: What is stopped first, and next; whatever else a Procfile has comes after these.
STOP_ORDER = ("scheduler", "supervisor")
#: How often a process that is to end at once is told so, and after how long it is killed, seconds.
REPEAT_SECONDS = 0.25
HASTE_SECONDS = 2.0
#: How long a killed process is waited for, whose output others may still hold open, seconds.
LINGER_SECONDS = 5.0
#: The loop looks around at least this often, seconds.
POLL_SECONDS = 0.1

OWN_NAME = "up"
_OWN_COLOUR = "37;1"
#: The colour of what the foreman says where somebody must act; a printer without colours takes it for an error.
ALARM_COLOUR = "1;31"
#: Ends that a process which was asked to end may come to: of itself, or by the signal.
_EXPECTED_ENDS = frozenset({0, -signal.SIGTERM, 128 + signal.SIGTERM})


class Entry(Protocol):
    """A process of a Procfile. It reports that it has started, what it says and that it has ended by messages."""

    name: str
    command: str

    def start(self, report: Callable[[Message], None]) -> None:
        """Start it; `report` is called from another thread."""
        ...

    def signal(self, pid: int, signum: signal.Signals) -> None:
        """Send it a signal."""
        ...


class HonchoEntry:
    """An entry run by honcho: through a shell, in a session of its own, both of its outputs in one."""

    def __init__(self, name: str, command: str, env: Mapping[str, str], cwd: Path, colour: str) -> None:
        self.name = name
        self.command = command
        self._process = Process(command, name=name, colour=colour, env=dict(env), cwd=str(cwd))

    def start(self, report: Callable[[Message], None]) -> None:
        """Start it in a thread that reads what it says until nobody can say anything any more."""
        threading.Thread(target=self._run, args=(report,), name=self.name, daemon=True).start()

    def _run(self, report: Callable[[Message], None]) -> None:
        try:
            self._process.run(_Reports(report))
        except OSError as error:
            report(_message("line", f"cannot be started: {error}\n", self.name))
            report(_message("stop", {"returncode": 1}, self.name))

    def signal(self, pid: int, signum: signal.Signals) -> None:
        """Send a signal to its group: with a shell in between, the process itself would not get it."""
        with suppress(ProcessLookupError, PermissionError):  # it has just ended; macOS says that of the dead
            os.killpg(pid, signum)


class _Reports:
    """What honcho takes for the queue of events."""

    def __init__(self, put: Callable[[Message], None]) -> None:
        self.put = put


class _Post:
    """Where an entry stands: its pid once started, its exit status once ended, what it was told when."""

    def __init__(self, entry: Entry) -> None:
        words = {entry.name, *entry.command.split()}
        self.entry = entry
        self.rank = next((rank for rank, word in enumerate(STOP_ORDER) if word in words), len(STOP_ORDER))
        self.pid: int | None = None
        self.returncode: int | None = None
        self.told_at: float | None = None
        self.hurried_at: float | None = None
        self.killed_at: float | None = None


class Foreman:
    """Runs entries until a signal or the end of one of them, then stops them all.

    Args:
        entries: what to run, started in this order.
        printer: prints what they say, and what the foreman does.
        wakeup: is woken by whatever happens.
        stop: the signals to this process.
        grace_seconds: how long each has to end once it was asked to.
        clock: measures that time.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        printer: Printer,
        wakeup: Wakeup,
        stop: StopSignals,
        grace_seconds: float,
        clock: Clock = system_clock,
    ) -> None:
        self._posts = {entry.name: _Post(entry) for entry in entries}
        self._printer = printer
        self._printer.width = max(map(len, [OWN_NAME, *self._posts]))
        self._wakeup = wakeup
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._mute = False
        self._code: int | None = None
        self._cut = False

    def run(self) -> int:
        """Run until all have ended; return the exit code for this process.

        That is the code of the one that ended first without having been asked to, or ended badly; 1 when a second
        signal cut them short; else 0.
        """
        for post in self._posts.values():
            post.entry.start(self._report)
        try:
            while self._left():
                select.select([self._wakeup], [], [], POLL_SECONDS)
                self._wakeup.drain()
                self._turn()
        finally:
            for post in self._left():
                self._signal(post, signal.SIGKILL)
        return self._code if self._code is not None else int(self._cut)

    def say(self, text: str, colour: str = _OWN_COLOUR) -> None:
        """Print a line of the foreman's own."""
        self._print(_message("line", f"{text}\n", OWN_NAME, colour))

    def _report(self, message: Message) -> None:
        self._messages.put(message)
        self._wakeup.wake()

    def _left(self) -> list[_Post]:
        return [post for post in self._posts.values() if post.returncode is None]

    @property
    def _ending(self) -> bool:
        return self._stop.graceful or self._code is not None or self._mute

    def _turn(self) -> None:
        """Hear what there is to hear, then do what is to be done at this moment."""
        with suppress(queue.Empty):
            while True:
                self._hear(self._messages.get_nowait())
        if self._stop.immediate:
            self._hurry()
        elif self._ending:
            self._wind_down()
        self._give_up()

    def _hear(self, message: Message) -> None:
        post = self._posts[message.name]
        if message.type == "start":
            post.pid = message.data["pid"]
            self.say(f"{message.name} started (pid {post.pid})")
        elif message.type == "stop":
            self._note_end(post, message.data["returncode"])
        else:
            self._print(message)

    def _note_end(self, post: _Post, returncode: int) -> None:
        post.returncode = returncode
        asked = post.told_at is not None or post.hurried_at is not None
        ended = f"{post.entry.name} ended {_how(returncode)}"
        if asked:
            self.say(ended)
        else:
            self.say(f"{ended}, without having been asked to", ALARM_COLOUR)
        if self._code is None and not (asked and (returncode in _EXPECTED_ENDS or self._stop.immediate)):
            self._code = returncode if returncode >= 0 else 128 - returncode

    def _wind_down(self) -> None:
        """Ask those that are next to end; kill what has had its time."""
        left = self._left()
        rank = min((post.rank for post in left), default=0)
        for post in (one for one in left if one.rank == rank and one.pid is not None):
            now = self._clock.monotonic()
            if post.told_at is None:
                post.told_at = now
                self.say(f"{post.entry.name} is asked to end")
                self._signal(post, signal.SIGTERM)
            elif now > post.told_at + self._grace_seconds:
                self._kill(post, f"has not ended in {self._grace_seconds:g} s")

    def _hurry(self) -> None:
        """Have all end at once: a repeated TERM makes a supervisor end its workers, which a KILL would not."""
        self._cut = True
        for post in (one for one in self._left() if one.pid is not None):
            now = self._clock.monotonic()
            if post.hurried_at is None:
                post.hurried_at = now
            elif now > post.hurried_at + HASTE_SECONDS:
                self._kill(post, "does not end")
                continue
            if post.told_at is None or now >= post.told_at + REPEAT_SECONDS:
                post.told_at = now
                self._signal(post, signal.SIGTERM)

    def _kill(self, post: _Post, why: str) -> None:
        if post.killed_at is None:
            post.killed_at = self._clock.monotonic()
            self.say(f"{post.entry.name} {why}; it is killed")
            self._signal(post, signal.SIGKILL)

    def _give_up(self) -> None:
        """Wait no longer for the killed whose output is still held open by somebody they left behind."""
        for post in self._left():
            if post.killed_at is not None and self._clock.monotonic() > post.killed_at + LINGER_SECONDS:
                self._note_end(post, -signal.SIGKILL)

    def _signal(self, post: _Post, signum: signal.Signals) -> None:
        if post.pid is not None:
            post.entry.signal(post.pid, signum)

    def _print(self, message: Message) -> None:
        """Print a line. Once nobody can read any, the terminal being gone, all is stopped in silence."""
        if not self._mute:
            try:
                self._printer.write(message)
            except (OSError, ValueError):
                self._mute = True


def _message(kind: str, data: object, name: str, colour: str | None = None) -> Message:
    moment = datetime.fromtimestamp(system_clock.now(), UTC).astimezone()
    return Message(type=kind, data=data, time=moment, name=name, colour=colour)


def _how(returncode: int) -> str:
    return f"by {signal.Signals(-returncode).name}" if returncode < 0 else f"with exit status {returncode}"
