"""Whether a process is alive: by its entry in the register, by its pid, by the file that it touches.

Each loop touches the file on every turn. An external health check needs only the file's age, for example in a
container. The loop keeps running while Redis is unreachable, so an outage of Redis causes no restart.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlm import __version__
from rlm.core.clock import system_clock
from rlm.core.files import CAREFUL, FILE_MODE
from rlm.ledger.processes import Process
from rlm.settings import apart_of

if TYPE_CHECKING:
    from rlm.settings import Settings

#: Environment variable with the path of the file; if it is unset or empty no file is touched.
ALIVE_VARIABLE: Final = "RLM_ALIVE_FILE"
#: Minimum seconds between two touches of the file. Every loop makes a turn within 5 s.
TOUCH_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


class AliveFile:
    """Touches the file that `RLM_ALIVE_FILE` names, at most every `TOUCH_SECONDS`."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._path = environ.get(ALIVE_VARIABLE, "")
        self._again_at = float("-inf")

    def touch(self) -> None:
        """Note a turn of the loop."""
        if not self._path or (now := system_clock.monotonic()) < self._again_at:
            return
        self._again_at = now + TOUCH_SECONDS
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | CAREFUL, FILE_MODE)
            try:
                os.utime(file)
            finally:
                os.close(file)
        except OSError as error:
            told = "%s names %s, which cannot be written: %s"
            log.warning(told, ALIVE_VARIABLE, self._path, error, extra={"action": "touch"})


@cache
def pid_space() -> str:
    """Return the boot and PID namespace in which a pid is unique; empty if the system hides them.

    Containers may share a host name, and each has a PID namespace of its own.
    """
    try:
        boot, namespace = Path("/proc/sys/kernel/random/boot_id").read_text(), Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return f"{boot.strip()}:{namespace}"


def entry_of(settings: Settings, process_id: str, pid: int, started_at: float) -> Process:
    """Return the register's entry of a process with these `settings`; `started_at` is in seconds since 1970."""
    return Process(
        process_id,
        pid,
        settings.host_name,
        started_at,
        threads=settings.workers.threads,
        revision=settings.revision,
        file=str(settings.source or ""),
        apart=apart_of(settings.event_types),
        version=__version__,
        pids=pid_space(),
    )


def is_dead(pid: int) -> bool:
    """Return whether this pid is unused in this PID namespace, or belongs to a zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except (OSError, OverflowError, IndexError):  # the process of another user, or there is no /proc
        return False
