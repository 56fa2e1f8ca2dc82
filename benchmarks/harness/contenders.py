"""The contenders: RLM, known by its commands only, and the programs beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.processes import NotRunError, running, wait_until
from benchmarks.harness.work import THREADS, Work

WARMING_SECONDS = 60.0
#: Variables of the caller's that would change what is measured.
_FOREIGN = ("RLM_", "REDIS_URL", "SENTRY_DSN", "PYTHONPATH", "VIRTUAL_ENV")
RIVALS = Path(__file__).parents[1] / "rivals"


class Rlm(NamedTuple):
    """This checkout of RLM."""

    name: str = "rlm"

    @contextmanager
    def ready(self, work: Work, api_url: str, redis_url: str, directory: Path) -> Iterator[Installation]:
        """Start a scheduler, a supervisor and all workers; yield once they are ready and the events are pushed."""
        installation = Installation(directory)
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

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._config = directory / "rlm.toml"
        self._run_id = ""
        self.workers: set[int] = set()
        self.scheduler = self.supervisor = 0

    def write(self, configuration: str) -> None:
        self._config.write_text(configuration)

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "rlm", *words, "--config", str(self._config)]

    @contextmanager
    def process(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a long-running command; its log is named after the first word."""
        with running(self._command(*words), self._directory / f"{words[0]}.log", env=environment()) as process:
            yield process

    def rlm(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command, env = self._command(*words), environment()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=120)
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


class Program(NamedTuple):
    """A rival, `threads` or `bullmq`: `lanes` are the calls that it may have in flight; threads share `processes`.

    A padded one makes each period longer by RLM's guard.
    """

    kind: str
    padded: bool = False
    lanes: int = 100
    processes: int = 1

    @property
    def name(self) -> str:
        return self.kind + ("-padded" if self.padded else "")

    def command(self) -> list[str]:
        """Return its command; raise NotRunError if it cannot run here."""
        if self.kind == "threads":
            return [sys.executable, "-m", "benchmarks.rivals.with_threads"]
        if not shutil.which("node") or not (RIVALS / "bullmq" / "node_modules").exists():
            raise NotRunError("it needs Node, and `npm install --prefix benchmarks/rivals/bullmq`")
        return ["node", str(RIVALS / "bullmq" / "rival.js")]

    @contextmanager
    def ready(self, work: Work, api_url: str, redis_url: str, directory: Path) -> Iterator[Running]:
        """Start workers and program; yield once all are ready and the events are where they wait."""
        log, job = directory / "program.log", directory / "job.json"
        job.write_text(json.dumps(self.job(work, api_url, redis_url)))
        with running(self.command(), log, env={**os.environ, "RIVAL_JOB": str(job)}) as program:

            def ready() -> bool:
                if program.poll() is not None:
                    last = log.read_text().strip().rpartition("\n")[2]
                    raise NotRunError(f"it ended with status {program.returncode}: {last}")
                return "ready" in log.read_text()

            wait_until(ready, 90.0, f"{self.name} is ready")
            yield Running(program)

    def job(self, work: Work, api_url: str, redis_url: str) -> dict[str, object]:
        """Return its work: events (id and type, in order of arrival), and the endpoints of each type by priority."""
        seconds = work.period + (work.guard if self.padded else 0)
        return {
            "redis_url": redis_url,
            "types": {
                kind.name: [
                    {"name": name, "url": f"{api_url}/{name}", "amount": work.amount, "seconds": seconds}
                    for name in kind.endpoints
                ]
                for kind in work.types
            },
            "events": [(f"{item}:{name}", name) for item, name in work.events()],
            "lanes_each": self.lanes // sum(len(kind.endpoints) for kind in work.types if kind.events),
            "lanes": self.lanes,
            "processes": self.processes,
        }


class Running:
    """A rival that is ready."""

    def __init__(self, program: subprocess.Popen[bytes]) -> None:
        self._program = program
        self._begun_at = 0.0

    def begin(self) -> None:
        """Let it begin."""
        self._begun_at = time.time()
        self._program.stdin.write(b"go\n")
        self._program.stdin.flush()

    def result(self, seconds: float) -> tuple[float, None]:  # noqa: ARG002 - RLM may have to be waited for
        """Return when it began, and that it has no forecast."""
        return self._begun_at, None
