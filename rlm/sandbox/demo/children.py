"""The demo's own processes, each in a session of its own, so that Ctrl-C is the demo's to handle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rlm.processes.signals import StopSignals

#: How long a process has to leave once it was told to leave at once, seconds.
HASTE_SECONDS = 3.0
#: Lines of the log that an error quotes.
LOG_LINES = 15

_POLL_SECONDS = 0.02


class Children:
    """Processes of RLM that share a configuration file and a log, stopped in the order in which they were started."""

    def __init__(
        self,
        config: Path,
        stop: StopSignals,
        grace_seconds: float,
        *,
        what: str = "demo",
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Have them read `config` and log beside it; each gets `grace_seconds` to leave.

        Errors say `what` they belong to; `environ` is added to the environment, `options` to each command.
        """
        self.what = what
        self._config = config
        self._environ = dict(environ or {})
        self._options = list(options)
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._log_path = config.parent / "processes.log"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, command: str) -> None:
        """Start `rlm COMMAND`, without any setting of this environment; it stops when this process dies."""
        with self._log_path.open("ab") as log:
            self._running[command] = subprocess.Popen(  # noqa: S603  # our own command
                [
                    *(sys.executable, "-P", "-m", "rlm.cli.tied", str(os.getpid())),
                    *(command, "--config", str(self._config), *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._config.parent,
                env={**bare_environment(), **self._environ},
            )

    def check(self) -> None:
        """See that all are alive.

        Raises:
            RunError: one has ended; the message quotes the log.
        """
        for command, process in self._running.items():
            if process.poll() is not None:
                raise self.trouble(f"`rlm {command}` ended unexpectedly ({process.returncode})")

    def trouble(self, what: str) -> RunError:
        """Make the error for `what` went wrong, with the end of the log."""
        said = f"The {self.what} broke off: {what}. The log of its processes ends:"
        return RunError("\n".join([said, *self.log()]))

    def log(self) -> list[str]:
        """Return the last lines of their log."""
        lines = self._log_path.read_text(errors="replace").splitlines() if self._log_path.exists() else []
        return lines[-LOG_LINES:]

    @property
    def pids(self) -> list[int]:
        """The process ids of those that were started."""
        return [process.pid for process in self._running.values()]

    def stop(self) -> None:
        """Stop one after the other, each in its grace period; all at once when a second signal asks for that."""
        for process in self._running.values():
            process.terminate()
            if not self._await(process, self._grace_seconds, hurried=False):
                break
        self._end_at_once()

    def _end_at_once(self) -> None:
        """Tell those that are left to go now, which for a supervisor includes its workers; then kill them."""
        left = [process for process in self._running.values() if process.poll() is None]
        for process in left:
            process.send_signal(signal.SIGQUIT)
        for process in left:
            if not self._await(process, HASTE_SECONDS, hurried=True):
                process.kill()
                process.wait()

    def _await(self, process: subprocess.Popen[bytes], seconds: float, *, hurried: bool) -> bool:
        until = system_clock.monotonic() + seconds
        while process.poll() is None:
            if system_clock.monotonic() > until or (self._stop.immediate and not hurried):
                return False
            system_clock.sleep(_POLL_SECONDS)
        return True


def bare_environment() -> dict[str, str]:
    """Return this environment without what would override the demo's own configuration; a person reads its log."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RLM_") and name not in {"REDIS_URL", "SENTRY_DSN"}
    }
    return {**kept, "RLM_LOG_FORMAT": "text"}
