"""The processes of the demo and of the self-test: commands of RLM with a configuration and a log of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rlm.core.errors import RunError
from rlm.processes.grace import group_grace
from rlm.processes.group import ProcessGroup

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings

#: Lines of the log that an error quotes.
LOG_LINES = 15


class Children:
    """Processes of RLM that share a configuration file and a log, stopped in the order in which they were started."""

    def __init__(
        self,
        settings: Settings,
        config: Path,
        stop: StopSignals,
        *,
        what: str = "demo",
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Have them read `config`, which has `settings`, and log beside it.

        Errors say `what` they belong to; `environ` is added to the environment, `options` to each command.
        """
        self.what = what
        self._config = config
        self._environ = dict(environ or {})
        self._options = list(options)
        self._group = ProcessGroup(stop, group_grace(settings))
        self._log_path = config.parent / "processes.log"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, command: str) -> None:
        """Start `rlm COMMAND`, without any setting of this environment; it stops when this process dies."""
        with self._log_path.open("ab") as log:
            self._running[command] = self._group.start(
                [command, "--config", str(self._config), *self._options],
                stdout=log,
                stderr=log,
                cwd=self._config.parent,
                env={**bare_environment(), **self._environ},
            )

    def check(self) -> None:
        """Return if all are alive.

        Raises:
            RunError: one has ended; the message quotes the log.
        """
        for command, process in self._running.items():
            if process.poll() is not None:
                raise self.trouble(f"`rlm {command}` ended unexpectedly ({process.returncode})")

    def trouble(self, what: str) -> RunError:
        """Return the error for `what` went wrong, with the end of the log."""
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
        self._group.end()


def bare_environment() -> dict[str, str]:
    """Return this environment without what would override the demo's own configuration; a person reads its log."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RLM_") and name not in {"REDIS_URL", "SENTRY_DSN"}
    }
    return {**kept, "RLM_LOG_FORMAT": "text"}
