"""The use of processes and of a Redis: processor time, memory, commands."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

#: The commands made to read the figures themselves.
_OURS = {"cmdstat_info", "cmdstat_config|resetstat"}


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that the processes have used so far, including that of ended threads.

    It is read from the clock that Linux keeps for each process, in nanoseconds; /proc has only hundredths.
    """
    used = 0.0
    for pid in pids:
        with suppress(OSError):  # the process has ended
            used += time.clock_gettime((~pid << 3) | 2)
    return used


def below(pid: int) -> set[int]:
    """Return the descendants of a process."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(child) for child in task.read_text().split()}
    return found.union(*map(below, found))


def proportional_mb(pid: int) -> float:
    """Return the memory of a process; shared memory is divided among its users (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def commands_made(client: redis.Redis) -> dict[str, int]:
    """Return how often each command was called since CONFIG RESETSTAT, including those in scripts."""
    found = client.info("commandstats")
    return {name: one["calls"] for name, one in found.items() if name not in _OURS}
