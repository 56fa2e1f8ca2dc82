"""Whether a process is alive: by its supervisor's announcements, by its pid, by the file that it touches.

Each loop touches the file on every turn. An external health check needs only the file's age, for example in a
container. The loop keeps running while Redis is unreachable, so an outage of Redis causes no restart.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlm import __version__
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.files import CAREFUL, FILE_MODE
from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Process, Role
from rlm.settings import apart_of

if TYPE_CHECKING:
    from rlm.ledger import Store
    from rlm.settings import Settings

#: A turn that takes longer counts as hung and is not announced, seconds: loading a template may take a minute.
LONGEST_TURN_SECONDS = 90.0
#: Seconds until a failed announcement is repeated.
AGAIN_SECONDS = 0.5

log = logging.getLogger(__name__)


class Presence:
    """Announces a supervisor every `HEARTBEAT_SECONDS`."""

    def __init__(self, store: Store, entry: Process) -> None:
        self.entry = entry
        self._store = store
        #: Others may have taken its share: it is not announced yet, its last announcement is too old, or Redis failed.
        self.lapsed = True
        self._said_at = float("-inf")
        self._turned_at = system_clock.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="presence", daemon=True)

    def start(self) -> None:
        """Start the thread that announces the supervisor during long turns."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait until it has ended."""
        self._stopped.set()
        self._thread.join()

    def turn(self) -> None:
        """Note that a turn begins, and announce the supervisor if an announcement is due."""
        self.go_on()
        self._keep()

    def go_on(self) -> None:
        """Note that the supervisor is not hung."""
        self._turned_at = system_clock.monotonic()

    def say(self) -> None:
        """Announce the supervisor now."""
        self.lapsed |= system_clock.monotonic() - self._said_at > HEARTBEAT_TTL_SECONDS
        self._store.processes.announce(Role.SUPERVISOR, self.entry)
        self._said_at = system_clock.monotonic()

    def _keep(self) -> None:
        """Announce the supervisor if that is due."""
        if system_clock.monotonic() - self._said_at >= HEARTBEAT_SECONDS:
            self.say()

    def _speak(self) -> None:
        pause = HEARTBEAT_SECONDS
        while not self._stopped.wait(pause):
            pause = HEARTBEAT_SECONDS
            if system_clock.monotonic() - self._turned_at > LONGEST_TURN_SECONDS:
                continue
            try:
                with self._store.guarded():
                    self._keep()
            except StoreError as error:
                pause = AGAIN_SECONDS
                log.debug("The supervisor cannot announce itself: %s", error, extra={"action": "announce"})


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
        """Note a turn of the loop. A file that cannot be written is logged at most once a minute."""
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


def has_died(owner: str, here: str) -> bool:
    """Return whether the owner `host:pid:...` is a dead process of this host, `here`; False for any other host."""
    host, pid, *_ = f"{owner}:".split(":")
    return host == here and pid.isdecimal() and is_dead(int(pid))
