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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.processes import NotRunError, below, running, wait_until
from benchmarks.harness.work import THREADS
from benchmarks.rivals.job import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.work import Work

BULLMQ = Path(__file__).parent / "bullmq"
#: Seconds until a crew must be ready.
WARMING_SECONDS = 90.0
LANES = 100


@dataclass(frozen=True, slots=True)
class Crew:
    """Processes that must be ready before a program begins; each writes `ready` a number of times to its log then."""

    commands: Callable[[Work], Iterator[list[str]]]
    ready: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Program:
    """A rival: `command` is its program, `crew` its workers, `lanes` the calls that it may have in flight.

    It makes each period longer: by RLM's guard if it is `guarded`, and by `pad_seconds` at every speed. Threads share
    `processes`; Dramatiq takes its slots from the moving window of `limits` if it is `moving`.
    """

    name: str
    command: Callable[[], list[str]]
    crew: Crew | None = None
    guarded: bool = False
    pad_seconds: float = 0.0
    lanes: int = LANES
    processes: int = 1
    moving: bool = False

    def check(self) -> None:
        """Raise NotRunError if it cannot run here."""
        self.command()

    @contextmanager
    def ready(self, work: Work, api_url: str, redis_url: str, directory: Path) -> Iterator[Running]:
        """Start workers and program; yield once all are ready and the events are where they wait."""
        log, job = directory / "program.log", directory / "job.json"
        job.write_text(json.dumps(self.job(work, api_url, redis_url)))
        env, before = {**os.environ, VARIABLE: str(job)}, below(os.getpid())
        with ExitStack() as stack:
            self._start_crew(stack, work, directory, env)
            program = stack.enter_context(running(self.command(), log, env=env))
            _await_words(log, "ready", 1, program)
            started = below(os.getpid()) - before
            yield Running(program, {pid for pid in started if not below(pid)})

    def job(self, work: Work, api_url: str, redis_url: str) -> dict[str, object]:
        """Return its work: the fields of `benchmarks.rivals.job.Job`."""
        seconds = work.period + self.pad_seconds + (work.guard if self.guarded else 0)
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
            "moving": self.moving,
        }

    def _start_crew(self, stack: ExitStack, work: Work, directory: Path, env: dict[str, str]) -> None:
        if self.crew is None:
            return
        crew = {}
        for number, command in enumerate(self.crew.commands(work)):
            log = directory / f"crew-{number}.log"
            crew[log] = stack.enter_context(running(command, log, env=env))
        stack.callback(lambda: [process.terminate() for process in crew.values()])  # all end together
        for log, process in crew.items():
            _await_words(log, self.crew.ready, self.crew.times, process)


class Running:
    """A rival that is ready."""

    def __init__(self, program: subprocess.Popen[bytes], workers: set[int]) -> None:
        self._program = program
        self._begun_at = 0.0
        self.workers = workers

    def begin(self) -> None:
        """Let it begin."""
        self._begun_at = time.time()
        self._program.stdin.write(b"go\n")
        self._program.stdin.flush()

    def result(self, seconds: float) -> tuple[float, None]:  # noqa: ARG002 - RLM may have to be waited for
        """Return when it began, and that it has no forecast."""
        return self._begun_at, None


def _await_words(log: Path, words: str, times: int, process: subprocess.Popen[bytes]) -> None:
    def ready() -> bool:
        if process.poll() is not None:
            last = log.read_text().strip().rpartition("\n")[2]
            raise NotRunError(f"it ended with status {process.returncode}: {last}")
        return log.read_text().count(words) >= times

    wait_until(ready, WARMING_SECONDS, f"{log.name} says {words!r} {times} times")


# -- the commands


def module(name: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-m", f"benchmarks.rivals.{name}"]


def dramatiq_workers(processes: int) -> Crew:
    """Return the workers of Dramatiq: `processes` with `THREADS` threads each."""
    size = ["--processes", str(processes), "--threads", str(THREADS)]
    command = [sys.executable, "-m", "dramatiq", "benchmarks.rivals.with_dramatiq", *size]
    return Crew(lambda _work: iter([command]), "ready for action", processes)


def _celery_workers(work: Work) -> Iterator[list[str]]:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
    for name in work.takes():
        own = ["--queues", name, "--hostname", name, "--pool", "gevent"]
        yield [sys.executable, "-m", "celery", "--app", "benchmarks.rivals.with_celery", "worker", *own, *quiet]


def bullmq(*options: str) -> list[str]:
    """Return the command; `options` are for npm, which installs it."""
    return [shutil.which("node") or "node", str(_bullmq_installed(*options) / "rival.js")]


@functools.cache
def _bullmq_installed(*options: str) -> Path:
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
    command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel", "error", *options]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRunError(f"npm cannot install BullMQ: {done.stderr.partition(chr(10))[0]}")
    return place


_DRAMATIQ = dramatiq_workers(LANES // THREADS)
_CELERY = Crew(_celery_workers, "ready.")

#: For the main job, with RLM's 100 lanes; lanes that are not threads cost little, so one has more of them.
PACE = (
    Program("threads", module("with_threads")),
    Program("threads-padded", module("with_threads"), guarded=True),
    Program("dramatiq", module("with_dramatiq"), _DRAMATIQ),
    Program("dramatiq-padded", module("with_dramatiq"), _DRAMATIQ, guarded=True),
    Program("celery", module("with_celery"), _CELERY),
    Program("celery-padded", module("with_celery"), _CELERY, guarded=True),
    Program("bullmq", bullmq),
    Program("bullmq-padded", bullmq, guarded=True),
    Program("bullmq-wide-padded", bullmq, guarded=True, pad_seconds=0.6, lanes=5 * LANES),
)
#: Where no limit binds, with 20 lanes; nothing is fetched then.
THROUGHPUT = (
    Program("threads", module("with_threads"), lanes=20, processes=2),
    Program("dramatiq", module("with_dramatiq"), dramatiq_workers(4), lanes=20, moving=True),
    Program("bullmq", functools.partial(bullmq, "--offline"), lanes=20),
)
