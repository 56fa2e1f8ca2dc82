"""The crash points: the table and the code agree, and nothing happens without the variable."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from rlm.core.failpoints import POINTS

ROOT = Path(__file__).parents[2]
#: A process that comes by a point three times, and says each time that it is still there.
PASSAGES = """
from rlm.core.failpoints import crash_point
for _ in range(3):
    crash_point("drain.staged")
    print("alive", flush=True)
"""


def calls():
    """Yield the name of each crash point in the code."""
    for package in ("rlm", "actors", "scheduler"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "crash_point":
                    yield node.args[0].value


def test_each_crash_point_of_the_table_is_in_the_code_once():
    assert Counter(calls()) == Counter(POINTS)


def play(tmp_path, told):
    """Run a process that reaches a point three times; return its exit status, and how often it survived."""
    done = subprocess.run(
        [sys.executable, "-c", PASSAGES],
        cwd=ROOT,
        env={**os.environ, "RLM_CRASH_AT": told} if told else os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.count("alive")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("", (0, 3)),
        ("drain.staged", (-signal.SIGKILL, 0)),
        ("drain.staged:3", (-signal.SIGKILL, 2)),
        ("drain.staged:4", (0, 3)),
        ("drain.done", (0, 3)),
    ],
)
def test_a_process_dies_at_the_passage_it_was_told(tmp_path, told, expected):
    assert play(tmp_path, told) == expected


def test_of_those_that_share_a_file_one_dies(tmp_path):
    file = tmp_path / "crash"
    file.write_text("drain.staged:2\n")

    assert play(tmp_path, f"@{file}") == (-signal.SIGKILL, 1)
    assert not file.exists()
    assert play(tmp_path, f"@{file}") == (0, 3)
