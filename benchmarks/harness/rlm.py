"""RLM as a contender, known by its commands only, so that any checkout of it can be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.processes import ROOT, NotRunError, running, wait_until
from benchmarks.harness.work import THREADS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness.work import Work

WARMING_SECONDS = 60.0
#: Variables of the caller's that would change what is measured.
_FOREIGN = ("RLM_", "REDIS_URL", "SENTRY_DSN", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Rlm:
    """A checkout of RLM, by default this one; another one has its own environment in `.venv` (`uv sync`)."""

    checkout: Path = ROOT
    name: str = "rlm"

    @property
    def python(self) -> str:
        return sys.executable if self.checkout == ROOT else str(self.checkout / ".venv" / "bin" / "python")

    def check(self) -> None:
        """Raise NotRunError unless the checkout has an environment."""
        if not Path(self.python).exists():
            raise NotRunError(f"{self.checkout} has no environment, run `uv sync` there")

    @contextmanager
    def ready(self, work: Work, api_url: str, redis_url: str, directory: Path) -> Iterator[Installation]:
        """Start a scheduler, a supervisor and all workers; yield once they are ready and the events are pushed."""
        installation = Installation(self.python, directory)
        installation.write(work.configuration(api_url, redis_url))
        with installation.process("scheduler") as scheduler, installation.process("supervisor") as supervisor:
            workers = work.lanes // THREADS
            wait_until(lambda: len(installation.ready_workers()) == workers, WARMING_SECONDS, f"{workers} workers", 0.3)
            installation.workers = installation.ready_workers()
            installation.scheduler, installation.supervisor = scheduler.pid, supervisor.pid
            installation.push(work)
            yield installation


class Installation:
    """One installation in a directory, driven by commands."""

    def __init__(self, python: str, directory: Path) -> None:
        self._command = [python, "-P", "-m", "rlm"]
        self._directory = directory
        self._config = directory / "rlm.toml"
        self._run_id = ""
        self.workers: set[int] = set()
        self.scheduler = self.supervisor = 0

    def write(self, configuration: str) -> None:
        self._config.write_text(configuration)

    @contextmanager
    def process(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a long-running command; its log is named after the first word."""
        command = [*self._command, *words, "--config", str(self._config)]
        with running(command, self._directory / f"{words[0]}.log", env=environment()) as process:
            yield process

    def rlm(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [*self._command, *words, "--config", str(self._config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=120)
        if check and done.returncode:
            raise NotRunError(f"rlm {' '.join(words)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def ready_workers(self) -> set[int]:
        """Return the process ids of the workers that are ready."""
        done = self.rlm("worker", "list", "--json", check=False)
        workers = json.loads(done.stdout) if done.returncode == 0 else []
        return {worker["pid"] for worker in workers if worker["state"] == "ready"}

    def push(self, work: Work) -> None:
        """Push the events like the audit system."""
        items = self._directory / "items.jsonl"
        lines = [json.dumps({"id": item, "wallet_name": "w", "events": [name]}) for item, name in work.events()]
        items.write_text("\n".join(lines))
        self.rlm("queue", "push", str(items))

    def begin(self) -> None:
        """Request a run."""
        self._run_id = json.loads(self.rlm("start", "--json").stdout)["run_id"]

    def result(self, seconds: float) -> tuple[float, float]:
        """Return when the run started, in seconds since 1970, and its forecast in seconds after the first call."""
        deadline = time.monotonic() + seconds
        while (done := self.rlm("result", self._run_id, "--json", check=False)).returncode:
            if time.monotonic() > deadline:
                raise NotRunError(f"run {self._run_id} is not closed within {seconds:g} s")
            time.sleep(0.3)
        record = json.loads(done.stdout)
        return datetime.fromisoformat(record["started_at"]).timestamp(), record["plan"]["forecast_seconds"]


def environment() -> dict[str, str]:
    """Return the caller's environment without what would change RLM."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
