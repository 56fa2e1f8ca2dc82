"""Whether a process is dead, by its pid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

from rlm.processes.alive import is_dead, pid_space
from tests.wait import wait_until


def test_a_process_that_was_killed_is_dead_before_it_is_collected():
    """Whose parent was killed with it waits for somebody else to collect it, which may take long in a container."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not is_dead(process.pid)

    process.kill()
    wait_until(lambda: is_dead(process.pid), message="it is dead, though nobody has collected it")
    process.communicate()

    assert is_dead(process.pid)


def test_numbers_count_within_a_boot_and_a_namespace(monkeypatch):
    """Processes of one container agree; where the system does not say, nobody can be sure."""
    told = subprocess.run(
        [sys.executable, "-c", "from rlm.processes.alive import pid_space; print(pid_space())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == pid_space() != ""

    monkeypatch.setattr(Path, "read_text", Mock(side_effect=PermissionError))
    pid_space.cache_clear()
    assert pid_space() == ""
    pid_space.cache_clear()
