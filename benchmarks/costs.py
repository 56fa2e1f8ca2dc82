"""Measures what a start takes and what idle workers cost.

uv run python -m benchmarks.costs                 # three times, about four minutes
uv run python -m benchmarks.costs --repeat 1 --seconds 5
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import redis

from benchmarks.harness.api import serving
from benchmarks.harness.contenders import Rlm
from benchmarks.harness.processes import Usage, below, memory_mb, private_redis
from benchmarks.harness.work import unlimited
from benchmarks.report import parser, report

EVENTS, IDLE_WORKERS = 100, 20
#: Seconds that new processes get to settle.
SETTLING_SECONDS = 3.0


def measure_start(rlm: Rlm) -> dict[str, float]:
    """Return the seconds from `rlm start --wait` to the first call; its scheduler, supervisor and workers are ready."""
    work = unlimited(EVENTS)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        api = stack.enter_context(serving(work, directory))
        url = stack.enter_context(private_redis(directory, durable=True))
        installation = stack.enter_context(rlm.ready(work, api.url, url, directory))
        began = time.time()
        with installation.process("start", "--wait"):
            api.await_events(EVENTS, 60.0)
        return {"start with warm workers, s": min(call.at for call in api.calls()) - began}


def measure_idle(rlm: Rlm, seconds: float) -> dict[str, float]:
    """Return what 20 warm workers cost that have nothing to do."""
    work = unlimited(0, workers=IDLE_WORKERS)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        url = stack.enter_context(private_redis(directory, durable=True))
        client = stack.enter_context(redis.Redis.from_url(url))
        running = stack.enter_context(rlm.ready(work, "http://127.0.0.1:1", url, directory))
        time.sleep(SETTLING_SECONDS)
        usage, began = Usage(client, below(os.getpid())), time.monotonic()
        time.sleep(seconds)
        own, server, commands = usage.since()
        passed, memory = time.monotonic() - began, {pid: memory_mb(pid) for pid in usage.own}
        return {
            "Redis commands/s": commands / passed,
            "part of a core, RLM": own / passed,
            "part of a core, Redis": server / passed,
            "scheduler, MB": memory[running.scheduler],
            "supervisor, MB": memory[running.supervisor],
            "a worker, MB": statistics.mean(memory[pid] for pid in running.workers),
            "all processes, MB": sum(memory.values()),
        }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=42.0, help="how long idle workers are watched")
    chosen = options.parse_args()
    report(chosen, {"start": measure_start, "idle": lambda rlm: measure_idle(rlm, chosen.seconds)})


if __name__ == "__main__":
    main()
