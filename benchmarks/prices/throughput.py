"""The cost of an event if no limit binds: each contender takes a slot per call from Redis, and makes a real call."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import redis

from benchmarks.harness.children import private_redis
from benchmarks.harness.installation import Installation
from benchmarks.harness.loads import Load
from benchmarks.harness.plain_api import PlainApi
from benchmarks.harness.usage import below, commands_made, cpu_seconds
from benchmarks.rivals.programs import Program, bullmq, dramatiq_workers, module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rlm.settings import Settings

#: How the Redis keeps its append-only file, the same for all.
APPENDFSYNC = "everysec"
#: Seconds that a contender has for its remaining work after the last call.
AFTERWARDS_SECONDS = 0.5
MOST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The configuration: a number of types with a number of endpoints each, and of RLM's workers."""

    types: int = 5
    endpoints: int = 4
    workers: int = 4

    def document(self) -> str:
        """Return the configuration; its limits are far from binding."""
        return "\n".join(["[run]\nwindow_seconds = 150", *map(self._table, range(self.types))])

    def _table(self, number: int) -> str:
        names = [f"t{number}_{place}" for place in range(self.endpoints)]
        endpoints = ", ".join(f'{{name = "{name}", url = "http://127.0.0.1:1/{name}"}}' for name in names)
        return (
            f"[types.T{number}]\npriority = {100 - number % 100}\nprocessing_seconds = 0.005\n"
            f'rate_limit = "100000/minute"\nendpoints = [{endpoints}]'
        )

    def load(self, events: int) -> Load:
        return Load("unlimited", tuple(events // self.types for _ in range(self.types)))


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of one run. Per event: milliseconds of processors, and commands."""

    rate: float
    first_call: float
    cpu: float
    workers: float
    redis: float
    commands: float

    @classmethod
    def median(cls, runs: Sequence[Spent]) -> Spent:
        return cls(*(statistics.median(getattr(one, name) for one in runs) for name in cls.__slots__))


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that is ready: how to start it, and which of its processes are workers."""

    begin: Callable[[], object]
    workers: set[int]


@contextmanager
def _rlm(shape: Shape, load: Load, redis_url: str, api: PlainApi, place: Path) -> Iterator[Running]:
    with installation(shape, redis_url, api, place) as system:
        system.start_warm()
        system.push_items(load.items(system.settings.event_types))
        yield Running(system.store.schedule.request, set(system.workers()))


def installation(shape: Shape, redis_url: str, api: PlainApi, place: Path) -> Installation:
    """Return RLM with exactly the workers of `shape`, on this Redis, calling this API."""
    options: dict[str, Any] = {"speed": 1, "document": shape.document(), "redis_url": redis_url, "api": api}
    return Installation.warm(place, workers=shape.workers, **options)


@dataclass(frozen=True, slots=True)
class Rival:
    """A program that RLM is compared with elsewhere, with as many lanes as RLM has here."""

    program: Program

    @contextmanager
    def __call__(self, shape: Shape, load: Load, redis_url: str, api: PlainApi, place: Path) -> Iterator[Running]:
        with installation(shape, redis_url, api, place) as system:  # only for its settings
            settings: Settings = system.settings
            before = below(os.getpid())
            with self.program.ready(load, settings, redis_url, place) as begin:
                mine = below(os.getpid()) - before
                yield Running(begin, {pid for pid in mine if not below(pid)})


LANES = 20
CONTENDERS = {
    "rlm": _rlm,
    "threads": Rival(Program("threads", module("with_threads"), lanes=LANES, processes=2)),
    "dramatiq": Rival(Program("dramatiq", module("with_dramatiq"), dramatiq_workers(4), lanes=LANES, moving=True)),
    "bullmq": Rival(Program("bullmq", partial(bullmq, "--offline"), lanes=LANES)),
}


@contextmanager
def surroundings() -> Iterator[tuple[redis.Redis, str, PlainApi, Path]]:
    """Start the Redis; yield a client of it, its URL, an API that is not started, and a place for files."""
    with (
        TemporaryDirectory(prefix="rlm-bench-") as name,
        private_redis(Path(name), APPENDFSYNC) as url,
        redis.Redis.from_url(url) as client,
    ):
        yield client, url, PlainApi(Path(name)), Path(name)


def measure(name: str, shape: Shape, events: int) -> Spent:
    """Let a contender send `events` events once.

    Raises:
        NotRunError: it cannot run here.
    """
    load = shape.load(events)
    with ExitStack() as stack:
        client, url, api, place = stack.enter_context(surroundings())
        running = stack.enter_context(CONTENDERS[name](shape, load, url, api, place))
        server = {client.info("server")["process_id"]}
        own = below(os.getpid()) - server - {api.pid}
        groups = own, running.workers, server
        before = [cpu_seconds(group) for group in groups]
        client.config_resetstat()
        began = time.monotonic()
        running.begin()
        seen = api.await_events(load.events, MOST_SECONDS)
        time.sleep(AFTERWARDS_SECONDS)
        commands = sum(commands_made(client).values())
        used = [1000 * (cpu_seconds(group) - earlier) for group, earlier in zip(groups, before, strict=True)]
        calls = api.seen().calls
        assert calls == load.events, f"{name} made {calls} calls for {load.events} events"
        per_event = (spent / load.events for spent in (*used, commands))
        return Spent(load.events / (seen.last_at - began), seen.first_at - began, *per_event)
