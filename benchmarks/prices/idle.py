"""The cost of warm workers while there is nothing to do."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness.usage import below, commands_made, cpu_seconds, proportional_mb
from benchmarks.prices.throughput import Shape, installation, surroundings

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKERS = 20
#: Seconds that new processes get to settle.
SETTLING_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Idle:
    """Commands a second, the parts of a core that RLM and Redis use, and proportional memory in MB, by process."""

    commands: float
    rlm: float
    redis: float
    scheduler: float
    supervisor: float
    template: float
    worker: float
    total: float

    @classmethod
    def median(cls, runs: Sequence[Idle]) -> Idle:
        return cls(*(statistics.median(getattr(one, name) for one in runs) for name in cls.__slots__))


def measure_idle(seconds: float) -> Idle:
    with surroundings() as (client, url, api, place), installation(Shape(workers=WORKERS), url, api, place) as system:
        system.start_warm()
        time.sleep(SETTLING_SECONDS)
        server = {client.info("server")["process_id"]}
        own = below(os.getpid()) - server - {api.pid}
        client.config_resetstat()
        began, used, of_redis = time.monotonic(), cpu_seconds(own), cpu_seconds(server)
        time.sleep(seconds)
        commands = sum(commands_made(client).values())
        passed, used, of_redis = time.monotonic() - began, cpu_seconds(own) - used, cpu_seconds(server) - of_redis
        memory = {pid: proportional_mb(pid) for pid in own}
        workers = [memory[pid] for pid in system.workers()]
        scheduler, supervisor = (memory[system.processes[name].pid] for name in ("scheduler", "supervisor"))
        total = sum(memory.values())
        template = total - scheduler - supervisor - sum(workers)
        shares = commands / passed, used / passed, of_redis / passed
        return Idle(*shares, scheduler, supervisor, template, statistics.mean(workers), total)
