"""Live views as real processes: on a terminal, in a pipe, as JSON; and the cost of a redraw."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager

import pytest

from rlm.delivery import run_end
from tests.store import steps
from tests.wait import wait_until

pytestmark = pytest.mark.rest


#: Makes what stands behind it the foreground process of its terminal, as a shell would: Ctrl-C is for it.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def run(inst):
    """An open run of 30 events that nobody conducts."""
    inst.push(*steps.items(30, steps.TYPE))
    return inst.start_run()


class Follower:
    """`rlm ...` on a pseudo-terminal of 80 columns, its output, and its exit status."""

    def __init__(self, inst, *args):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        os.set_blocking(self._ours, False)
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
        environ.pop("NO_COLOR", None)
        command = [
            sys.executable,
            "-c",
            TAKE_TERMINAL,
            sys.executable,
            "-m",
            "rlm",
            *args,
            "--config",
            str(inst.config),
        ]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
        )
        os.close(theirs)
        self.written = ""

    def press_ctrl_c(self):
        os.write(self._ours, b"\x03")

    def read(self):
        """Return all output so far."""
        try:
            while chunk := os.read(self._ours, 65536):
                self.written += chunk.decode(errors="replace")
        except (BlockingIOError, OSError):
            pass  # nothing more for now; or for ever, as it has left
        return self.written

    def wait(self):
        """Wait until it has ended; return its exit status."""
        wait_until(lambda: (self.read(), self.process.poll() is not None)[1], timeout=20, message="it leaves")
        self.read()
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@contextmanager
def on_a_terminal(inst, *args):
    follower = Follower(inst, *args)
    try:
        yield follower
    finally:
        follower.close()


@contextmanager
def in_a_pipe(inst, *args):
    """`rlm ...` whose stdout and stderr are pipes."""
    command = [sys.executable, "-m", "rlm", *args, "--config", str(inst.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def close(inst, run):
    steps.finish(inst.store, inst.token, run)
    assert run_end.close_run(inst.store, run.id)


def test_ctrl_c_detaches_from_a_run_that_goes_on(inst, run):
    """The picture is drawn, and drawn again; Ctrl-C ends the view with 0, says so, and gives the cursor back."""
    with on_a_terminal(inst, "status", "--follow", "--interval", "0.2") as follower:
        wait_until(lambda: follower.read().count(run.id) > 1, timeout=20, message="it is drawn twice")
        follower.press_ctrl_c()
        status = follower.wait()

    told = " ".join(follower.written.rpartition("\x1b[?25h")[2].split())
    assert status == 0
    assert f"Run {run.id} goes on; `rlm status` shows it" in told
    assert inst.store.runs.is_open(run.id)


def test_a_pipe_gets_a_line_per_change(inst, run):
    """No escape sequence; the same twice is said once; the last line is the record's."""
    with in_a_pipe(inst, "status", run.id, "--follow", "--interval", "0.1") as follower:
        first = follower.stdout.readline()
        steps.complete(inst.store, steps.claim(inst.store))
        second = follower.stdout.readline()
        close(inst, run)
        last, errors = follower.communicate(timeout=20)

    assert f"run {run.id} running: 0 of 30 completed; 0 under way, 30 waiting" in first
    assert "1 of 30 completed" in second or "1 under way" in second
    assert f"run {run.id} partial after" in last.splitlines()[-1]
    assert "\x1b" not in first + second + last + errors
    assert follower.returncode == 0
