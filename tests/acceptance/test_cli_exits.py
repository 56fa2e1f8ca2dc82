"""Every exit code of the real command in a process of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.store import steps

pytestmark = pytest.mark.rest

SECONDS = 30


def exits(inst, *words):
    """Run a command without anybody to answer; return its exit code, which it explains only on stderr."""
    command = [sys.executable, "-m", "rlm", *words, "--config", str(inst.config)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or (done.stdout == "" and "Error: " in done.stderr)
    return done.returncode


def test_0_done(inst):
    """It did what it was asked to."""
    assert exits(inst, "queue", "stats", "--json") == 0


def test_1_it_ran_and_failed(inst):
    """There is something to remove, and nobody says yes to it."""
    inst.push(*steps.items(1, steps.TYPE))

    assert exits(inst, "queue", "clear") == 1


def test_2_usage_or_configuration(inst):
    """A value that is not allowed, for one."""
    inst.config.write_text("[workers]\nmax = 0\n")

    assert exits(inst, "config", "check") == 2


@pytest.mark.parametrize("words", [("failed", "show", "nobody"), ("status", os.fsdecode(b"\xff"))])
def test_3_no_such_run_or_event(inst, words):
    """Nobody knows of it, be it no text at all."""
    assert exits(inst, *words) == 3


def test_4_redis_cannot_be_reached(inst, tmp_path):
    """Nothing listens there."""
    inst.config.write_text(f'[redis]\nurl = "unix://{tmp_path}/nobody.sock"\n')

    assert exits(inst, "queue", "stats") == 4


def test_130_interrupted(inst):
    """Ctrl-C ends it without a word."""
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


@pytest.mark.parametrize("words", [["--help"], ["config", "show"]])
def test_141_nobody_reads_on(inst, words):
    """As behind `head`, which has gone: it ends without a word."""
    # A pipe nobody reads from
    read, write = os.pipe()
    os.close(read)

    done = subprocess.run(
        [sys.executable, "-m", "rlm", *words],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=inst.config.parent,
        timeout=SECONDS,
        check=False,
    )
    os.close(write)

    assert done.returncode == 141
    assert done.stderr == b""
