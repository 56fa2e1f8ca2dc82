"""Odd conditions of a shell: streams that are closed, full, or have a poor encoding; no current directory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.rest


#: What is said if there is no room for the output.
FULL = b"Error: nothing more can be written (No space left on device): make room where this command writes\n"


def run(line, where, **environ):
    """Run a line in a shell."""
    line = line.replace("rlm", f"{sys.executable} -m rlm", 1)
    return subprocess.run(
        ["/bin/sh", "-c", line], cwd=where, env={**os.environ, **environ}, capture_output=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("rlm config show run >&- <&-", 0, b""),
        ("rlm config show nothing 2>&-", 2, b""),
        ("rlm nothing 2>/dev/full", 2, b""),
        ("rlm --help >/dev/full", 1, FULL),
        ("rlm config show run >/dev/full", 1, FULL),
    ],
)
def test_a_stream_that_cannot_be_used_changes_no_exit_code(tmp_path, line, code, said):
    done = run(line, tmp_path)

    assert (done.returncode, done.stderr) == (code, said)
