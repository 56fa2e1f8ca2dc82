"""Measures events a second and what each costs where no limit binds, for RLM and its peers.

uv run python -m benchmarks.throughput                           # all, five times
uv run python -m benchmarks.throughput --contender rlm --endpoints 100 --types 25
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import redis

from benchmarks.harness.api import serving
from benchmarks.harness.figures import median, table
from benchmarks.harness.processes import NotRunError, below, commands_made, cpu_seconds, private_redis
from benchmarks.harness.rlm import Rlm
from benchmarks.harness.work import unlimited
from benchmarks.rivals.programs import THROUGHPUT, Program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.work import Work

CONTENDERS = {contender.name: contender for contender in (Rlm(), *THROUGHPUT)}
MOST_SECONDS = 60.0
#: Seconds that a contender has for its remaining work after the last call.
AFTERWARDS_SECONDS = 0.5


class Spent(NamedTuple):
    """The cost of one run. Per event: milliseconds of processors, and commands of Redis."""

    rate: float
    first_call: float
    cpu: float
    workers: float
    redis: float
    commands: float


COLUMNS = {
    "rate": ("events/s", "{:,.0f}"),
    "first_call": ("first call, s", "{:.2f}"),
    "cpu": ("CPU ms per event, all its processes", "{:.2f}"),
    "workers": ("workers alone", "{:.2f}"),
    "redis": ("Redis CPU ms per event", "{:.2f}"),
    "commands": ("Redis commands per event", "{:.1f}"),
}


def run_once(contender: Rlm | Program, work: Work) -> Spent:
    """Let a contender send all events once; all have a Redis with an append-only file synced every second."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        api = stack.enter_context(serving(work, directory))
        url = stack.enter_context(private_redis(directory, durable=True))
        client = stack.enter_context(redis.Redis.from_url(url))
        running = stack.enter_context(contender.ready(work, api.url, url, directory))
        server = {client.info("server")["process_id"]}
        groups = below(os.getpid()) - server - {api.pid}, running.workers, server
        before = [cpu_seconds(group) for group in groups]
        client.config_resetstat()
        running.begin()
        api.await_events(work.count, MOST_SECONDS)
        time.sleep(AFTERWARDS_SECONDS)
        commands = commands_made(client)
        used = [1000 * (cpu_seconds(group) - earlier) for group, earlier in zip(groups, before, strict=True)]
        started_at, _ = running.result(MOST_SECONDS)
        calls = api.calls()
        if len(calls) != work.count:
            raise NotRunError(f"it made {len(calls)} calls for {work.count} events")
        times = [call.at for call in calls]
        per_event = (spent / work.count for spent in (*used, commands))
        return Spent(work.count / (max(times) - started_at), min(times) - started_at, *per_event)


def row(name: str, runs: Sequence[Spent]) -> list[str]:
    """Return the medians of one contender."""
    return [f"`{name}`", *(shape.format(median(runs, field)) for field, (_, shape) in COLUMNS.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--types", type=int, default=5)
    parser.add_argument("--endpoints", type=int, default=4, help="of each type")
    parser.add_argument("--workers", type=int, default=4, help="RLM's, of five threads")
    parser.add_argument("--contender", choices=CONTENDERS, action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    work = unlimited(options.events, types=options.types, endpoints=options.endpoints, workers=options.workers)
    runs: dict[str, list[Spent]] = {name: [] for name in options.contender or CONTENDERS}
    not_run: dict[str, str] = {}
    for _ in range(options.repeat):  # in turns, so that a slow minute of the machine affects all
        for name in [name for name in runs if name not in not_run]:
            try:
                runs[name].append(run_once(CONTENDERS[name], work))
            except NotRunError as error:
                not_run[name] = str(error)
            else:
                print(f"{name} {runs[name][-1]}", file=sys.stderr, flush=True)
    head = ["contender", *(title for title, _ in COLUMNS.values())]
    print(table(head, [row(name, spent) for name, spent in runs.items() if spent]))
    for name, why in not_run.items():
        print(f"\nNot run, or not to the end: `{name}`: {why}")


if __name__ == "__main__":
    main()
