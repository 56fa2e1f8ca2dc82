"""Odd conditions of a shell: streams that are closed, full, or have a poor encoding; no current directory."""

from __future__ import annotations

import json
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


def test_what_the_encoding_of_a_stream_does_not_have_is_escaped(tmp_path):
    # A file whose name Latin-1 cannot write
    config = tmp_path / "日é.toml"
    config.touch()

    done = run("rlm config check --json", tmp_path, RLM_CONFIG=str(config), PYTHONIOENCODING="latin-1")

    assert json.loads(done.stdout.decode("latin-1"))["file"] == str(config)
    assert done.stderr == b""


@pytest.mark.parametrize("command", ["config check", "up"])
def test_a_directory_that_is_gone_is_named_as_the_trouble(tmp_path, command):
    done = run(f"mkdir gone && cd gone && rmdir ../gone && rlm {command}", tmp_path)

    assert done.returncode == 2
    assert b"the current directory cannot be used" in done.stderr
    assert b"name a file with --config" in done.stderr
