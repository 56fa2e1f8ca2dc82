"""`rlm demo` for a person and for a script: real processes, of which nothing remains."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.leftbehind import nothing_left_behind

pytestmark = [pytest.mark.alone, pytest.mark.rest]

#: No more than 12 calls fit into a window, for the account allows no more.
NARROW = """
[types.ONLY]
processing_seconds = 3.0
rate_limit = "20 per 5 minutes"
endpoints = [{ name = "only_api", url = "http://127.0.0.1:8090/only_api", budget = "account" }]
[budgets.account]
rate_limit = "12 per 5 minutes"
"""


@pytest.fixture
def place(tmp_path_factory):
    """A directory for temporary directories; afterwards it is empty and no process uses it.

    Its path is short, because the path of a socket must be.
    """
    place = tmp_path_factory.mktemp("d") / "t"
    place.mkdir()
    with nothing_left_behind(place):
        yield place
    assert list(place.iterdir()) == []


@contextmanager
def demo(place, *args, **streams):
    """Start `rlm demo`; a failing test leaves none running."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    process = subprocess.Popen(
        [sys.executable, "-m", "rlm", "demo", *args],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(place)},
        cwd=place.parent,
        **streams,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)
        process.communicate(timeout=20)


def read_until(process, pattern):
    """Read lines of the output up to the first in which `pattern` is found."""
    for line in process.stdout:
        if re.search(pattern, line):
            return
    raise AssertionError(f"the output ended without {pattern!r}: {process.stderr.read().decode()}")


def test_says_honestly_what_does_not_fit(place):
    """More events than the limits and budgets allow are counted as left over, and that is no failure."""
    config = place.parent / "narrow.toml"
    config.write_text(NARROW)

    with demo(place, "--config", str(config), "--events", "30", "--speed", "20") as process:
        out, err = (stream.decode() for stream in process.communicate(timeout=60))

    assert process.returncode == 0, err
    assert "12 completed, 0 failed, 18 left over" in out
    assert "Left over: 18 expected, 18 in fact" in out
    assert "the next run would take it first" in out
    assert re.search(r"\nbudget .*\naccount +12 +0 +12 +12 per 15", out)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_leaves_nothing_behind_when_it_is_interrupted(place, signum):
    """A signal in the middle of the run ends it with exit code 130; processes, server and directory are gone."""
    with demo(place, "--speed", "20") as process:
        read_until(process, b"running: ")

        process.send_signal(signum)
        _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert b"interrupted" in err
