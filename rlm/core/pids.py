"""The numbers of processes: where one counts, and whether it is still somebody's."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def pid_space() -> str:
    """Return what the number of a process is unique in, the boot and its namespace; empty where the system hides it.

    Containers may share the name of their host, and each counts its processes anew.
    """
    try:
        boot, namespace = Path("/proc/sys/kernel/random/boot_id").read_text(), Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return f"{boot.strip()}:{namespace}"


def is_dead(pid: int) -> bool:
    """Return whether no process of this space has a number, or one that only waits to be collected."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except (OSError, OverflowError, IndexError):  # another user's, or there is no /proc
        return False


def has_died(owner: str, here: str) -> bool:
    """Return whether `host:pid:...` is a dead process of the host `here`, which is this; False for any other host."""
    host, pid, *_ = f"{owner}:".split(":")
    return host == here and pid.isdecimal() and is_dead(int(pid))
