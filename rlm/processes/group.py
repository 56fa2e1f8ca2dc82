"""A group of child processes, stopped in order: `rlm up`, the demo, the self-test and `rlm start --wait` have one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from rlm.core.clock import Clock, system_clock
from rlm.processes.signals import HASTE_SECONDS, LINGER_SECONDS, REPEAT_SECONDS, StopSignals

_POLL_SECONDS = 0.02


class Running(Protocol):
    """A child process, as `subprocess.Popen` has it. `pid` is None until it has started."""

    @property
    def pid(self) -> int | None:
        """Its process id."""

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""

    def send_signal(self, sig: int) -> None:
        """Send it a signal; one that has ended gets none."""


class Member(msgspec.Struct):
    """A process of a group, its exit status once it has ended, and what it was told when, in monotonic seconds."""

    name: str
    process: Running
    rank: int
    returncode: int | None = None
    asked_at: float | None = None
    hurried_at: float | None = None
    killed_at: float | None = None


class ProcessGroup:
    """Processes that end together, those of the lowest rank first, each in its own grace period.

    After a second signal all end at once: they get TERM again and again, which makes a supervisor end its workers as a
    KILL would not, and then KILL.

    `grace_seconds` is how long each has to end once it was asked to. `say` is told in words what is done.
    """

    def __init__(
        self,
        stop: StopSignals,
        grace_seconds: float,
        say: Callable[[str], None] = lambda _text: None,
        clock: Clock = system_clock,
    ) -> None:
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._say = say
        self._clock = clock
        self._members: list[Member] = []

    @property
    def left(self) -> list[Member]:
        """Those that have not ended, as of the last `reap`."""
        return [one for one in self._members if one.returncode is None]

    def add(self, name: str, process: Running, rank: int) -> None:
        """Take a process in."""
        self._members.append(Member(name, process, rank))

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start `rlm COMMAND`; it is stopped after those that were started before it, and when this process dies.

        It leads a session of its own, so that Ctrl-C is for this process. `options` are those of `Popen`.
        """
        tied = [sys.executable, "-P", "-m", "rlm", "--tied-to", str(os.getpid()), *command]
        process = subprocess.Popen(tied, stdin=subprocess.DEVNULL, start_new_session=True, **options)  # noqa: S603
        self.add(command[0], process, rank=len(self._members))
        return process

    def reap(self) -> list[Member]:
        """Return those that have ended since the last call; a killed one also if its output is still held open."""
        now = self._clock.monotonic()
        left = self.left
        for one in left:
            one.returncode = one.process.poll()
            if one.returncode is None and one.killed_at is not None and now > one.killed_at + LINGER_SECONDS:
                one.returncode = -signal.SIGKILL
        return [one for one in left if one.returncode is not None]

    def step(self) -> None:
        """Take the next step towards the end of all: ask, hurry or kill whoever it is time for."""
        left = self.left
        if self._stop.immediate:
            for one in left:
                self._hurry(one)
        else:
            rank = min((one.rank for one in left), default=0)
            for one in left:
                if one.rank == rank:
                    self._ask(one)

    def end(self) -> None:
        """Stop all, and wait for that."""
        self.reap()
        while self.left:
            self.step()
            self._clock.sleep(_POLL_SECONDS)
            self.reap()

    def kill(self) -> None:
        """Kill whatever is left, without waiting."""
        for one in self.left:
            one.process.send_signal(signal.SIGKILL)

    def _ask(self, one: Member) -> None:
        now = self._clock.monotonic()
        if one.process.pid is None:
            return
        if one.asked_at is None:
            one.asked_at = now
            self._say(f"{one.name} is asked to end")
            one.process.send_signal(signal.SIGTERM)
        elif now > one.asked_at + self._grace_seconds:
            self._kill(one, f"has not ended in {self._grace_seconds:g} s")

    def _hurry(self, one: Member) -> None:
        now = self._clock.monotonic()
        if one.process.pid is None:
            return
        if one.hurried_at is None:
            one.hurried_at = now
        elif now > one.hurried_at + HASTE_SECONDS:
            self._kill(one, "does not end")
            return
        if one.asked_at is None or now >= one.asked_at + REPEAT_SECONDS:
            one.asked_at = now
            one.process.send_signal(signal.SIGTERM)

    def _kill(self, one: Member, why: str) -> None:
        if one.killed_at is None:
            one.killed_at = self._clock.monotonic()
            self._say(f"{one.name} {why}; it is killed")
            one.process.send_signal(signal.SIGKILL)
