"""Measures events a second and what each costs where no limit binds, for RLM and its peers.

uv run python -m benchmarks.throughput
uv run python -m benchmarks.throughput --contender rlm --endpoints 100 --types 25
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import redis

from benchmarks.harness.api import serving
from benchmarks.harness.contenders import Program, Rlm
from benchmarks.harness.processes import NotRunError, Usage, below, private_redis
from benchmarks.harness.work import Work, unlimited
from benchmarks.report import parser, report

MOST_SECONDS = 60.0
#: Seconds that a contender has for its remaining work after the last call.
AFTERWARDS_SECONDS = 0.5
RIVALS = [Program("threads", lanes=20, processes=2), Program("bullmq", lanes=20)]
COMMANDS = "Redis commands per event"


def measure(work: Work, contender: Rlm | Program) -> dict[str, float]:
    """Let a contender send all events once; all have a Redis with an append-only file synced every second."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        api = stack.enter_context(serving(work, directory))
        url = stack.enter_context(private_redis(directory, durable=True))
        client = stack.enter_context(redis.Redis.from_url(url))
        running = stack.enter_context(contender.ready(work, api.url, url, directory))
        usage = Usage(client, below(os.getpid()) - {api.pid})
        running.begin()
        api.await_events(work.count, MOST_SECONDS)
        time.sleep(AFTERWARDS_SECONDS)
        own, server, commands = usage.since()
        started_at, _ = running.result(MOST_SECONDS)
        times = [call.at for call in api.calls()]
        if len(times) != work.count:
            raise NotRunError(f"it made {len(times)} calls for {work.count} events")
        return {
            "events/s": work.count / (max(times) - started_at),
            "first call, s": min(times) - started_at,
            "CPU ms per event, all its processes": 1000 * own / work.count,
            "Redis CPU ms per event": 1000 * server / work.count,
            COMMANDS: commands / work.count,
        }


def main() -> None:
    options = parser(__doc__, RIVALS)
    options.add_argument("--events", type=int, default=5000)
    options.add_argument("--types", type=int, default=5)
    options.add_argument("--endpoints", type=int, default=4, help="of each type")
    options.add_argument("--workers", type=int, default=4, help="RLM's, of five threads")
    chosen = options.parse_args()
    work = unlimited(chosen.events, types=chosen.types, endpoints=chosen.endpoints, workers=chosen.workers)
    report(chosen, {"throughput": functools.partial(measure, work)})


if __name__ == "__main__":
    main()
