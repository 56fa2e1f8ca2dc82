"""From an empty directory to a finished run by the output of `rlm init` alone: the real commands, in a shell."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.leftbehind import nothing_left_behind
from tests.wait import wait_until

#: A step of what `rlm init` says: its number, the command, and what it is for, two spaces apart.
STEP = re.compile(r"^  \d\. ((?:.+\|\n +)?.+?)(?:  .*)?$", re.MULTILINE)


@pytest.fixture
def shell(tmp_path):
    """Run a shell line in an empty directory, where `rlm` is this checkout's; return its output."""
    program = tmp_path / "bin" / "rlm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m rlm "$@"\n')
    program.chmod(0o755)
    place = tmp_path / "first"
    place.mkdir()
    environ = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}

    class Shell:
        directory = place

        def __call__(self, line):
            done = subprocess.run(
                line, shell=True, cwd=place, env=environ, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            return done.stdout

        @contextmanager
        def running(self, line, said):
            """Start a command and wait until it has printed `said`; it runs during the block."""
            log = place / f"{line.split()[1]}.log"
            with log.open("w") as output:
                process = subprocess.Popen(
                    f"exec {line}", shell=True, cwd=place, env=environ, stdout=output, stderr=output
                )
            try:
                wait_until(lambda: said in log.read_text(), timeout=30)
                yield log.read_text()
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 0

    return Shell()


@pytest.mark.long
def test_a_first_time_user_gets_to_a_finished_run(shell, tmp_path):
    """Step by step as they are told; only the port is another, for somebody else may have 8090."""
    with nothing_left_behind(tmp_path):
        # An empty directory
        assert list(shell.directory.iterdir()) == []

        api, up, push, start, result = STEP.findall(shell("rlm init"))
        shell("rlm config check")
        with shell.running(f"{api} --port 0", "serves 20 endpoints") as said:
            file = shell.directory / "rlm.toml"
            file.write_text(file.read_text().replace("http://127.0.0.1:8090", re.search(r"http://\S+", said)[0]))
            with shell.running(up, "is ready for up to"):
                shell(push)
                shell(start)
                record = json.loads(shell(f"{result} --json"))

    assert record["state"] == "completed"
    assert record["counts"]["completed"] == 1
