"""What a process announces, and the file that it touches.

Each loop touches the file on every turn. An external health check needs only the file's age, for example in a
container. The loop keeps running while Redis is unreachable, so an outage of Redis causes no restart.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlm.core.clock import system_clock
from rlm.core.files import FILE_MODE
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

    def __init__(self) -> None:
        self._path = os.environ.get(ALIVE_VARIABLE, "")
        self._again_at = float("-inf")

    def touch(self) -> None:
        """Note a turn of the loop."""
        if not self._path or (now := system_clock.monotonic()) < self._again_at:
            return
        self._again_at = now + TOUCH_SECONDS
        try:
            Path(self._path).touch(FILE_MODE)
        except OSError as error:
            message = "%s names %s, which cannot be written: %s"
            log.warning(message, ALIVE_VARIABLE, self._path, error, extra={"action": "touch"})


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
    )
