"""Measures what a start takes and what idle workers cost.

uv run python -m benchmarks.costs                 # five times, about six minutes
uv run python -m benchmarks.costs --repeat 1 --seconds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from benchmarks.harness.api import serving
from benchmarks.harness.figures import medians, table
from benchmarks.harness.processes import (
    NotRunError,
    below,
    commands_made,
    cpu_seconds,
    memory_mb,
    private_redis,
    wait_until,
)
from benchmarks.harness.rlm import Installation, Rlm
from benchmarks.harness.work import unlimited

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness.api import Api

#: The least that a program with Redis imports: the measure for a start.
IMPORT = "import redis"
EVENTS = 100
IDLE_WORKERS = 20
#: Seconds that new processes get to settle.
SETTLING_SECONDS = 3.0
MOST_SECONDS = 60.0


def measure_start(rlm: Rlm) -> dict[str, float]:
    """Return the seconds of an import, and from `rlm start --wait` to the first call; all modules are compiled."""
    began = time.monotonic()
    subprocess.run([rlm.python, "-c", IMPORT], check=True)
    return {
        f"{IMPORT}, s": time.monotonic() - began,
        "start where nothing runs, s": _cold(rlm),
        "start with warm workers, s": _warm(rlm),
    }


def _cold(rlm: Rlm) -> float:
    """Nothing runs, not even the embedded server, which has the items on its disk."""
    work = unlimited(EVENTS)
    with _place() as directory, serving(work, directory) as api:
        installation = Installation(rlm.python, directory)
        installation.write(work.configuration(api.url, "").replace("min = 4", "min = 0"))
        with installation.process("scheduler"):
            wait_until(lambda: installation.rlm("queue", "stats", check=False).returncode == 0, 20, "a server", 0.3)
            installation.push(work)
        return _first_call(installation, api)


def _warm(rlm: Rlm) -> float:
    """A scheduler, a supervisor and its workers are ready."""
    work = unlimited(EVENTS)
    with (
        _place() as directory,
        serving(work, directory) as api,
        private_redis(directory, durable=True) as url,
        rlm.ready(work, api.url, url, directory) as installation,
    ):
        return _first_call(installation, api)


def _first_call(installation: Installation, api: Api) -> float:
    began = time.time()
    with installation.process("start", "--wait"):
        api.await_events(EVENTS, MOST_SECONDS)
    calls = api.calls()
    if len(calls) < EVENTS:
        raise NotRunError(f"{len(calls)} calls came for {EVENTS} events")
    return calls[0].at - began


def measure_idle(rlm: Rlm, seconds: float) -> dict[str, float]:
    """Return what 20 warm workers cost that have nothing to do."""
    work = unlimited(0, workers=IDLE_WORKERS)
    with ExitStack() as stack:
        directory = stack.enter_context(_place())
        url = stack.enter_context(private_redis(directory, durable=True))
        client = stack.enter_context(redis.Redis.from_url(url))
        running = stack.enter_context(rlm.ready(work, "http://127.0.0.1:1", url, directory))
        time.sleep(SETTLING_SECONDS)
        server = {client.info("server")["process_id"]}
        own = below(os.getpid()) - server
        client.config_resetstat()
        began, before = time.monotonic(), [cpu_seconds(group) for group in (own, server)]
        time.sleep(seconds)
        commands, passed = commands_made(client), time.monotonic() - began
        used = [cpu_seconds(group) - earlier for group, earlier in zip((own, server), before, strict=True)]
        memory = {pid: memory_mb(pid) for pid in own}
        return {
            "idle: Redis commands/s": commands / passed,
            "idle: part of a core, RLM": used[0] / passed,
            "idle: part of a core, Redis": used[1] / passed,
            "idle: scheduler, MB": memory[running.scheduler],
            "idle: supervisor, MB": memory[running.supervisor],
            "idle: a worker, MB": statistics.mean(memory[pid] for pid in running.workers),
            "idle: all processes, MB": sum(memory.values()),
        }


@contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name:
        yield Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=42.0, help="how long idle workers are watched")
    options = parser.parse_args()
    runs = [measure_start(Rlm()) | measure_idle(Rlm(), options.seconds) for _ in range(options.repeat)]
    print(table(["figure", "median", "least to most"], medians(runs)))


if __name__ == "__main__":
    main()
