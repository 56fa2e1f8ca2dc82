"""Whether processes live: by their number, and by the file that one touches while its loop goes round.

The file is for a health check from outside that asks nobody.

A container's engine looks at the file's age. That Redis is away does not stop the loop, so nothing is restarted for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from rlm.core.clock import system_clock
from rlm.core.files import CAREFUL, FILE_MODE

#: Names the file; unset or empty: there is none.
ALIVE_VARIABLE: Final = "RLM_ALIVE_FILE"
#: How often the file is touched at the most, seconds. Every loop goes round within 5 s.
TOUCH_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


class AliveFile:
    """Touches the file of `RLM_ALIVE_FILE`, if one is named, whenever `touch` is called and it is time again."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._path = environ.get(ALIVE_VARIABLE, "")
        self._again_at = float("-inf")

    def touch(self) -> None:
        """Note that the loop has gone round. A file that cannot be written is told of, once a minute at the most."""
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
            self._again_at = now + 60
            log.warning(
                "%s names %s, which cannot be written: %s", ALIVE_VARIABLE, self._path, error, extra={"action": "touch"}
            )


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
