"""The work of a conductor and a Redis, per event and while waiting: processor time, commands, bytes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness.installed import Conducted, Shape
from rlm.ledger.turns import Release, Terms
from tests.store import steps

if TYPE_CHECKING:
    import redis

    from scheduler.release_loop import ReleaseLoop

#: A limit that never binds, and one that lets nothing through after the first call of each endpoint.
OPEN, SHUT = "1000000/minute", "1 per 100 second"
WINDOW_SECONDS = 180.0
_LATER_US = 100_000_000
#: Releases to send in one command.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Busy:
    """The cost of an event in microseconds of processor time, commands and bytes; of a turn and a forecast in ms."""

    events: int
    seconds: float
    conductor_us: float
    redis_us: float
    commands: float
    bytes: float
    turn_ms: float
    forecast_ms: float

    @property
    def conductor_a_second(self) -> float:
        """The events a second at which the conductor uses a whole processor."""
        return 1e6 / self.conductor_us

    @property
    def redis_a_second(self) -> float:
        """The same for Redis, which serves one command at a time."""
        return 1e6 / self.redis_us


@dataclass(frozen=True, slots=True)
class Waiting:
    """The cost of a second in which nothing can be sent: parts of a processor, commands, bytes; a turn in ms."""

    conductor: float
    redis: float
    commands: float
    bytes: float
    turn_ms: float


@dataclass(frozen=True, slots=True)
class Claims:
    """The turns of lanes a second that one Redis took from `processes`, and its processor time for each."""

    processes: int
    a_second: float
    redis_us: float

    @property
    def redis_a_second(self) -> float:
        """The turns that it would take if it had nothing else to do and never waited."""
        return 1e6 / self.redis_us


class _Redis:
    """What a Redis has done since this object was made."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._before = client.info()

    def since(self) -> tuple[float, int, int]:
        """Return its processor time in seconds, its commands, and its bytes in both directions."""
        now = self._client.info()
        used = {key: now[key] - value for key, value in self._before.items() if isinstance(value, int | float)}
        cpu = used["used_cpu_user"] + used["used_cpu_sys"]
        both = used["total_net_input_bytes"] + used["total_net_output_bytes"]
        return cpu, used["total_commands_processed"], both


class _Driven:
    """A release loop that is driven turn by turn, and the processor time that it took."""

    def __init__(self, loop: ReleaseLoop) -> None:
        self._loop = loop
        self.cpu = 0.0
        self.turns: list[float] = []
        self.forecasts: list[float] = []
        forecaster, forecast = loop._forecaster, loop._forecaster._forecast  # noqa: SLF001  # this is measured

        def timed(*args: object) -> None:
            began = time.thread_time()
            forecast(*args)  # type: ignore[arg-type]
            self.forecasts.append(time.thread_time() - began)

        forecaster._forecast = timed  # type: ignore[method-assign]  # noqa: SLF001

    def drive(self, seconds: float) -> float:
        """Take turns for so many seconds, or until nothing is left; return the time taken."""
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            cpu = time.thread_time()
            pause = self._loop._turn()  # noqa: SLF001
            self.turns.append(time.thread_time() - cpu)
            self.cpu += self.turns[-1]
            if pause is None:
                return time.perf_counter() - began
            time.sleep(pause)
        return took


def measure_busy(shape: Shape, events: int, seconds: float, processes: int = 2) -> Busy:
    """Send events whose limits do not bind, over lanes that get their answers at once."""
    with Conducted(shape._replace(limit=OPEN)) as at:
        run = at.start_run(events, WINDOW_SECONDS)
        driven = _Driven(steps.release_loop(at.store, at.conductor, run))
        with at.fleet(processes, threads=4):
            driven.drive(0.5)  # the first turn reads everything
            done_before = _completed(at, run.id)
            driven.cpu, driven.turns = 0.0, []
            server = _Redis(at.store.client)
            took = driven.drive(seconds)
            cpu, commands, both = server.since()
            done = max(1, _completed(at, run.id) - done_before)
    return Busy(
        events=done,
        seconds=took,
        conductor_us=1e6 * driven.cpu / done,
        redis_us=1e6 * cpu / done,
        commands=commands / done,
        bytes=both / done,
        turn_ms=1000 * statistics.median(driven.turns),
        forecast_ms=1000 * max(driven.forecasts, default=0.0),
    )


def _completed(at: Conducted, run_id: str) -> int:
    return sum(n for name, n in at.store.runs.tally(run_id).items() if name.startswith("completed:"))


def measure_waiting(shape: Shape, seconds: float) -> Waiting:
    """Let an event wait for each endpoint, with all windows full."""
    with Conducted(shape._replace(limit=SHUT)) as at:
        run = at.start_run(shape.endpoints, WINDOW_SECONDS)
        now_us, pipeline = at.store.now_us(), at.store.client.pipeline(transaction=False)
        for one in at.settings.endpoints.values():
            pipeline.lpush(at.store.keys.window(one.window_id), now_us)
        pipeline.execute()
        driven = _Driven(steps.release_loop(at.store, at.conductor, run))
        driven.drive(0.5)
        driven.cpu, driven.turns = 0.0, []
        server = _Redis(at.store.client)
        took = driven.drive(seconds)
        cpu, commands, both = server.since()
    return Waiting(driven.cpu / took, cpu / took, commands / took, both / took, 1000 * statistics.median(driven.turns))


def measure_claims(shape: Shape, events: int, processes: int) -> Claims:
    """Let processes take turns for calls that are all released; nobody conducts meanwhile."""
    with Conducted(shape._replace(limit=OPEN)) as at:
        run = at.start_run(events, WINDOW_SECONDS)
        kinds, now_us = at.settings.event_types, at.store.now_us()
        guard, revision = at.settings.run.guard_seconds, at.settings.revision
        terms = [Terms.of(kind, kind.endpoints[0], at.store.keys, guard, revision) for kind in kinds]
        later = now_us + _LATER_US
        made = [Release(run.id, later, later, later, 50_000, terms[n % len(terms)]) for n in range(events)]
        with at.fleet(processes, threads=4):
            server, began = _Redis(at.store.client), time.perf_counter()
            for first in range(0, events, _BATCH):
                at.store.turns.release(at.token, run.id, made[first : first + _BATCH])
            while (done := _completed(at, run.id)) < events and time.perf_counter() - began < WINDOW_SECONDS / 3:
                time.sleep(0.05)
            took = time.perf_counter() - began
            cpu, _, _ = server.since()
    return Claims(processes, done / took, 1e6 * cpu / max(1, done))
