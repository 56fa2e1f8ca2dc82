"""The rivals that are programs: how each is started, told to begin, and stopped."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.processes import NotRunError, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.work import Work

BULLMQ = Path(__file__).parent / "bullmq"
LANES = 100


@dataclass(frozen=True, slots=True)
class Program:
    """A rival: `command` is its program, `lanes` the calls that it may have in flight.

    It makes each period longer by RLM's guard if it is `guarded`. Threads share `processes`.
    """

    name: str
    command: Callable[[], list[str]]
    guarded: bool = False
    lanes: int = LANES
    processes: int = 1

    def check(self) -> None:
        """Raise NotRunError if it cannot run here."""
        self.command()

    @contextmanager
    def ready(self, work: Work, api_url: str, redis_url: str, directory: Path) -> Iterator[Running]:
        """Start workers and program; yield once all are ready and the events are where they wait."""
        log, job = directory / "program.log", directory / "job.json"
        job.write_text(json.dumps(self.job(work, api_url, redis_url)))
        env = {**os.environ, "RIVAL_JOB": str(job)}
        with running(self.command(), log, env=env) as program:

            def ready() -> bool:
                if program.poll() is not None:
                    last = log.read_text().strip().rpartition("\n")[2]
                    raise NotRunError(f"it ended with status {program.returncode}: {last}")
                return "ready" in log.read_text()

            wait_until(ready, 90.0, f"{self.name} is ready")
            yield Running(program)

    def job(self, work: Work, api_url: str, redis_url: str) -> dict[str, object]:
        """Return its work: events (id and type, in order of arrival), and the endpoints of each type by priority."""
        seconds = work.period + (work.guard if self.guarded else 0)
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


def threads() -> list[str]:
    return [sys.executable, "-m", "benchmarks.rivals.with_threads"]


@functools.cache
def _bullmq() -> Path:
    """Install BullMQ outside the project, while this program runs, and return the place.

    Raises:
        NotRunError: there is no Node, or BullMQ cannot be installed.
    """
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        raise NotRunError("there is no Node here")
    place = Path(tempfile.mkdtemp(prefix="rlm-bench-bullmq-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    for file in BULLMQ.iterdir():
        shutil.copy(file, place)
    command = [
        npm,
        "install",
        "--no-package-lock",
        "--no-audit",
        "--no-fund",
        "--loglevel",
        "error",
        "--prefer-offline",
    ]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRunError(f"npm cannot install BullMQ: {done.stderr.partition(chr(10))[0]}")
    return place


def bullmq() -> list[str]:
    return ["node", str(_bullmq() / "rival.js")]


#: For the main job, with RLM's 100 lanes.
PACE = tuple(
    Program(name + ("-padded" if guarded else ""), command, guarded)
    for name, command in (("threads", threads), ("bullmq", bullmq))
    for guarded in (False, True)
)
#: Where no limit binds, with 20 lanes.
THROUGHPUT = (
    Program("threads", threads, lanes=20, processes=2),
    Program("bullmq", bullmq, lanes=20),
)
