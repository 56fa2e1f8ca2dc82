"""A command that is interrupted ends with 130, in a process of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.rest

SECONDS = 30


def test_130_interrupted(inst):
    # A command that waits for what a person types
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rlm", "queue", "push", "--config", str(inst.config)]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "Ctrl-D ends" in process.stderr.readline()

        process.send_signal(signal.SIGINT)
        told, said = process.communicate(timeout=SECONDS)
    os.close(ours)
    os.close(theirs)

    assert process.returncode == 130
    assert told == ""
    assert said == ""
