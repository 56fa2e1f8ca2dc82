"""The foreman: real processes of a Procfile, stopped by honcho's manager."""

from __future__ import annotations

import io
import os
import signal
import threading
import time

import pytest

from rlm.processes import procfile
from rlm.processes.procfile import Foreman, LinePrinter
from rlm.processes.signals import StopSignals

#: A process that ends by itself once it has been asked to.
OBEYS = "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"
#: One that does not end.
DEAF = "trap '' TERM; echo up; while :; do sleep 0.02; done"


class Play:
    """Runs a foreman with these processes; signals come when a line has been printed."""

    def __init__(self, *, grace_seconds=10.0, output=None, **commands):
        self.output = output or io.StringIO()
        self.grace_seconds, self.commands = grace_seconds, commands

    def run(self, *signals, after="| up"):
        """Return the exit code; the signals are sent once all processes have said that they are up."""

        def send():
            while self.text.count(after) < len(self.commands):
                time.sleep(0.01)
            for signum in signals:
                os.kill(os.getpid(), signum)
                time.sleep(0.3)

        with StopSignals() as stop:
            foreman = Foreman(LinePrinter(self.output, as_json=False, coloured=False), stop, self.grace_seconds)
            for name, command in self.commands.items():
                foreman.add_process(name, command, env=dict(os.environ))
            if signals:
                threading.Thread(target=send, daemon=True).start()
            return foreman.run()

    @property
    def text(self):
        return self.output.getvalue()


def test_what_does_not_end_is_killed_after_the_grace_period(monkeypatch):
    """Also if a descendant in its own session holds its output open; the exit code says that work was cut."""
    monkeypatch.setattr(procfile, "LINGER_SECONDS", 0.3)
    play = Play(grace_seconds=1.0, scheduler=f"setsid sleep 6 & {DEAF}", supervisor=OBEYS)
    began = time.monotonic()

    assert play.run(signal.SIGTERM) == 1
    assert 1.0 < time.monotonic() - began < 4.0


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -SEGV $$", 139)])
def test_an_end_nobody_asked_for_stops_all_and_gives_the_exit_code(command, code):
    """How the others end then does not matter."""
    assert Play(scheduler=OBEYS.replace("exit 0", "exit 3"), other=f"sleep 0.2; {command}").run() == code
