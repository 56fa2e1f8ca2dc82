"""The foreman: real processes of a Procfile, stopped in order by honcho's manager."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time

import pytest

from rlm.processes.procfile import Foreman, TextPrinter
from rlm.processes.signals import StopSignals

#: A process that ends by itself once it has been asked to.
OBEYS = "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"
#: One that ends at a second TERM only.
BUSY = "trap 'trap \"exit 0\" TERM' TERM; echo up; while :; do sleep 0.02; done"
#: One that does not end.
DEAF = "trap '' TERM; echo up; while :; do sleep 0.02; done"


class Play:
    """Runs a foreman with these processes; signals come when a line has been printed."""

    def __init__(self, *, grace_seconds=10.0, output=None, cwd=None, **commands):
        self.output = output or io.StringIO()
        self.grace_seconds, self.cwd, self.commands = grace_seconds, cwd, commands

    def run(self, *signals, after="| up"):
        """Return the exit code; the signals are sent once all processes have said that they are up."""

        def send():
            while self.text.count(after) < len(self.commands):
                time.sleep(0.01)
            for signum in signals:
                os.kill(os.getpid(), signum)
                time.sleep(0.3)

        with StopSignals() as stop:
            foreman = Foreman(TextPrinter(self.output, coloured=False), stop, self.grace_seconds)
            for name, command in self.commands.items():
                foreman.add_process(name, command, env=dict(os.environ), cwd=self.cwd)
            if signals:
                threading.Thread(target=send, daemon=True).start()
            return foreman.run()

    @property
    def text(self):
        return self.output.getvalue()

    def assert_in_order(self, *words):
        places = [self.text.find(word) for word in words]
        assert -1 not in places, self.text
        assert places == sorted(places), self.text


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda one: one.name)
def test_stops_the_scheduler_then_the_supervisor_then_the_rest(signum):
    """Each is asked to end when those before it have, whatever the order in the Procfile; the exit code is 0."""
    play = Play(web=OBEYS, supervisor=OBEYS, scheduler=OBEYS)

    assert play.run(signum) == 0

    play.assert_in_order("scheduler is asked", "scheduler stopped (rc=0)", "supervisor is asked")
    play.assert_in_order("supervisor stopped (rc=0)", "web is asked", "web stopped (rc=0)")


def test_each_has_its_own_grace_period_and_is_killed_after_it():
    """Longer than the five seconds of honcho, if need be; a killed one makes the exit code."""
    play = Play(grace_seconds=2.0, scheduler=DEAF, supervisor=OBEYS)

    assert play.run(signal.SIGTERM) == 128 + signal.SIGKILL

    play.assert_in_order("scheduler is asked", "scheduler has not ended in 2 s; it is killed", "supervisor is asked")
    assert play.text.count("it is killed") == 1


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -SEGV $$", 139)])
def test_an_end_nobody_asked_for_stops_all_and_gives_the_exit_code(command, code):
    """The others are stopped in order, and how they end then does not matter."""
    play = Play(scheduler=OBEYS.replace("exit 0", "exit 3"), other=f"sleep 0.2; {command}")

    assert play.run() == code

    play.assert_in_order("other ended", "without having been asked to", "scheduler is asked", "scheduler stopped")


def test_a_second_signal_ends_all_at_once():
    """All get TERM, and again; the exit code says that work was cut."""
    play = Play(scheduler=BUSY, supervisor=BUSY, web=OBEYS)
    began = time.monotonic()

    assert play.run(signal.SIGINT, signal.SIGINT) == 1
    assert time.monotonic() - began < 3


def test_a_process_that_cannot_be_started_stops_all(tmp_path):
    """Its directory is gone: honcho alone would wait for its start."""
    assert Play(cwd=str(tmp_path / "gone"), scheduler=OBEYS).run() == 1


def test_stops_all_when_its_output_is_gone():
    """With the terminal closed nobody would know that anything runs, so nothing shall."""

    class Gone(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    assert Play(output=Gone(), scheduler=OBEYS).run() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a session that keeps the output open")
def test_a_killed_process_whose_output_is_held_open_is_not_awaited(monkeypatch):
    """A descendant in its own session has it."""
    monkeypatch.setattr("rlm.processes.group.LINGER_SECONDS", 0.3)
    play = Play(grace_seconds=0.2, scheduler=f"setsid sleep 4 & {DEAF}")
    began = time.monotonic()

    assert play.run(signal.SIGTERM) == 128 + signal.SIGKILL
    assert time.monotonic() - began < 3
