"""A group of child processes, stopped in order: for `rlm up`, the demo, the test and `rlm start --wait`."""

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
    """A child process with the methods of `subprocess.Popen`. `pid` is None until it has started."""

    @property
    def pid(self) -> int | None:
        """Its process id."""

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""


class Member(msgspec.Struct):
    """A process of a group, its exit status once it has ended, and when it was told what, in monotonic seconds."""

    name: str
    process: Running
    rank: int
    returncode: int | None = None
    asked_at: float | None = None
    hurried_at: float | None = None
    killed_at: float | None = None


class ProcessGroup:
    """Processes that end together: the lowest rank first, each within its own grace period.

    After a second signal all end at once. They get TERM repeatedly, because a second TERM makes a supervisor kill its
    workers, which a KILL would not; KILL comes last.

    `grace_seconds` is how long each has to end once it was asked to. `say` is called with a sentence for each step.
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
        """The members that had not ended at the last `reap`."""
        return [one for one in self._members if one.returncode is None]

    def add(self, name: str, process: Running, rank: int) -> None:
        """Add a process to the group."""
        self._members.append(Member(name, process, rank))

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start `rlm COMMAND`, which stops after those started before it, and when this process dies.

        It leads its own session, so Ctrl-C reaches only this process. `options` are those of `Popen`.
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
        """Take the next step of the stop: ask, hurry or kill the members whose turn it is."""
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
        """Stop all members, and wait until they have ended."""
        self.reap()
        while self.left:
            self.step()
            self._clock.sleep(_POLL_SECONDS)
            self.reap()

    def kill(self) -> None:
        """Kill all members that are left, without waiting."""
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
