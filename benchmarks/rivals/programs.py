"""The rivals that are programs: how each is started, told to begin, and stopped."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.api import ApiProcess
from benchmarks.harness.children import ROOT, private_redis, running
from benchmarks.harness.contender import LANES, NotRunError, Result, judge
from benchmarks.rivals.job import VARIABLE
from rlm.sandbox.configuration import demo_document
from rlm.settings import load_settings
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.loads import Load
    from rlm.core.endpoint import Endpoint
    from rlm.settings import Settings

BULLMQ = Path(__file__).parent / "bullmq"
#: Seconds until a crew must be ready.
WARMING_SECONDS = 90.0
THREADS = 5


@dataclass(frozen=True, slots=True)
class Crew:
    """Processes that must be ready before a program begins; each writes `ready` a number of times to its log then."""

    commands: Callable[[Settings], Iterator[list[str]]]
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

    def run(self, load: Load, speed: float, directory: Path) -> Result:
        """Start server, Redis, workers and program, tell it to begin once all are ready, and judge it."""
        config = directory / "rlm.toml"
        config.write_text(demo_document(load_settings(None, {}), speed, "http://127.0.0.1:1"))
        with ExitStack() as stack:
            api = stack.enter_context(ApiProcess(config))
            config.write_text(demo_document(load_settings(None, {}), speed, api.url))
            settings = load_settings(config, {})
            redis_url = stack.enter_context(private_redis(directory))
            begin = stack.enter_context(self.ready(load, settings, redis_url, directory))
            started_at = time.monotonic()
            begin()
            events = [event_id for event_id, _ in _events(load, settings)]
            return Result(judge(api, events, settings, started_at))

    @contextmanager
    def ready(self, load: Load, settings: Settings, redis_url: str, directory: Path) -> Iterator[Callable[[], None]]:
        """Start workers and program; yield the function that lets it begin, once all are ready.

        Raises:
            NotRunError: it cannot run here.
        """
        command, log, job = self.command(), directory / "program.log", directory / "job.json"
        job.write_text(json.dumps(self.job(load, settings, redis_url)))
        env = {VARIABLE: str(job)}

        def begin() -> None:
            program.stdin.write(b"go\n")
            program.stdin.flush()

        with ExitStack() as stack:
            self._start_crew(stack, settings, directory, env)
            program = stack.enter_context(running(command, log, env=env, cwd=ROOT))
            _await_words(log, "ready", 1, program)
            yield begin

    def job(self, load: Load, settings: Settings, redis_url: str) -> dict[str, object]:
        """Return its work: the fields of `benchmarks.rivals.job.Job`."""
        pad = self.pad_seconds + (settings.run.guard_seconds if self.guarded else 0)
        backlog = load.backlog(settings.event_types)
        used = sum(len(one.endpoints) for one in settings.event_types if backlog[one.name])
        return {
            "redis_url": redis_url,
            "types": {one.name: [_address(end, pad) for end in one.endpoints] for one in settings.event_types},
            "events": _events(load, settings),
            "lanes_each": self.lanes // used,
            "lanes": self.lanes,
            "processes": self.processes,
            "moving": self.moving,
        }

    def _start_crew(self, stack: ExitStack, settings: Settings, directory: Path, env: dict[str, str]) -> None:
        if self.crew is None:
            return
        crew = {}
        for number, command in enumerate(self.crew.commands(settings)):
            log = directory / f"crew-{number}.log"
            crew[log] = stack.enter_context(running(command, log, env=env, cwd=ROOT))
        stack.callback(lambda: [process.terminate() for process in crew.values()])  # all end together
        for log, process in crew.items():
            _await_words(log, self.crew.ready, self.crew.times, process)


def _events(load: Load, settings: Settings) -> list[tuple[str, str]]:
    return [(f"{item_id}:{name}", name) for item_id, name in load.items(settings.event_types)]


def _address(endpoint: Endpoint, pad_seconds: float) -> dict[str, object]:
    (rule,) = endpoint.limit.rules
    return {
        "name": endpoint.name,
        "url": endpoint.url,
        "amount": rule.amount,
        "seconds": rule.seconds + pad_seconds,
    }


def _await_words(log: Path, words: str, times: int, process: subprocess.Popen[bytes]) -> None:
    def said() -> bool:
        if process.poll() is not None:
            raise NotRunError(f"it ended with status {process.returncode}: {_last_line(log.read_text())}")
        return log.read_text().count(words) >= times

    wait_until(said, timeout=WARMING_SECONDS, message=f"{log.name} says {words!r} {times} times")


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


# -- the commands


def module(name: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-m", f"benchmarks.rivals.{name}"]


def dramatiq_workers(processes: int) -> Crew:
    """Return the workers of Dramatiq: `processes` with `THREADS` threads each."""
    size = ["--processes", str(processes), "--threads", str(THREADS)]
    command = [sys.executable, "-m", "dramatiq", "benchmarks.rivals.with_dramatiq", *size]
    return Crew(lambda _settings: iter([command]), "ready for action", processes)


def _celery_workers(settings: Settings) -> Iterator[list[str]]:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
    for name in settings.endpoints:
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
#: Lanes that are not threads cost little, so there may be more of them.
_WIDE = 5 * LANES

PROGRAMS = (
    Program("threads", module("with_threads")),
    Program("threads-padded", module("with_threads"), guarded=True),
    Program("dramatiq", module("with_dramatiq"), _DRAMATIQ),
    Program("dramatiq-padded", module("with_dramatiq"), _DRAMATIQ, guarded=True),
    Program("celery", module("with_celery"), _CELERY),
    Program("celery-padded", module("with_celery"), _CELERY, guarded=True),
    Program("bullmq", bullmq),
    Program("bullmq-padded", bullmq, guarded=True),
    Program("bullmq-padded-more", bullmq, guarded=True, pad_seconds=0.4),
    Program("bullmq-wide-padded", bullmq, guarded=True, pad_seconds=0.6, lanes=_WIDE),
)
