"""One installation of many, in full and without faults: `python -m tests.simulation.scale` judges limits and forecast.

The planner, the schedulers, the release loop, a supervisor for each of many hosts, lanes and scripts are RLM's own, as
in the other simulations. docs/scale.md explains which part of 1,000 hosts, 10,000 endpoints and 100,000 events a second
it is.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import structs

from rlm.core.endpoint import all_limited
from rlm.ledger import Store
from rlm.ledger.reading.books import books
from rlm.processes.supervisor import Supervisor
from rlm.sandbox.mockapi.service import recount
from tests.simulation import seams
from tests.simulation.case import settings_of
from tests.simulation.world import World, _Launcher
from tests.values import replace

if TYPE_CHECKING:
    from rlm.settings import Settings
    from tests.simulation.loop import Host

#: Calls of an endpoint in a period, and the period, seconds: with the guard slightly more than 10 a second.
CALLS, PERIOD_SECONDS = 11, 1.0
GUARD_SECONDS = 0.05
#: The average duration of a call: the simulated API answers after 0.03 to 0.15 s.
PROCESSING_SECONDS = 0.09
THREADS = 5
#: Runs begin on multiples of it; the events are pushed half a second before the second one.
WINDOW_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Load:
    """A number of types and endpoints, of hosts and workers, and of events for one window."""

    types: int
    each: int
    hosts: int
    workers_here: int
    events: int

    @property
    def endpoints(self) -> int:
        return self.types * self.each

    def settings(self) -> Settings:
        """Return its configuration."""
        types = "".join(
            f"[types.T{number}]\nprocessing_seconds = {PROCESSING_SECONDS}\n"
            f'rate_limit = "{CALLS} per {PERIOD_SECONDS} second"\nendpoints = ['
            + ",".join(f'{{name="t{number}-{at}",url="http://simulated/{number}/{at}"}}' for at in range(self.each))
            + "]\n"
            for number in range(self.types)
        )
        workers = self.hosts * self.workers_here
        return settings_of(
            '[redis]\nurl = "redis://simulated:6379/0"\n'
            f"[run]\nwindow_seconds = {WINDOW_SECONDS}\nevery_seconds = {WINDOW_SECONDS}\n"
            f"guard_seconds = {GUARD_SECONDS}\n"
            f"[workers]\nmin = {workers}\nmax = {workers}\nmax_here = {self.workers_here}\nthreads = {THREADS}\n"
            f"[retry]\ntimeout_seconds = 1\n{types}"
        )


@dataclass(frozen=True, slots=True)
class Played:
    """The result: the record of the run with the load, and the verdict."""

    load: Load
    hosts: int
    workers: int
    calls: int
    completed: int
    leftover: int
    planned_leftover: int
    planned_seconds: float
    actual_seconds: float
    worst: int
    complaints: list[str]
    took_seconds: float

    def lines(self) -> str:
        """Return it as text."""
        load, lanes = self.load, self.workers * THREADS
        size = f"{load.endpoints:,} endpoints of {load.types} types, {self.hosts} hosts, {lanes:,} lanes"
        done = f"{self.completed:,} completed in {self.calls:,} calls"
        return "\n".join(
            [
                f"{size}, {load.events:,} events in a window of {WINDOW_SECONDS:g} s",
                f"planned: done {self.planned_seconds:.2f} s after the first call, {self.planned_leftover:,} left over",
                f"in fact: done {self.actual_seconds:.2f} s after it, {self.leftover:,} left over, {done}",
                f"the worst period of an endpoint had {self.worst} of {CALLS} calls",
                *(f"BROKEN: {one}" for one in self.complaints),
                f"simulated in {self.took_seconds:.0f} s",
            ]
        )


class ManyHosts(World):
    """A world of many hosts, each with its own supervisor, without faults."""

    def __init__(self, seed: int, load: Load) -> None:
        super().__init__(seed, load.settings())
        self.faults.healed = True
        self._load = load
        self._named = 0

    def start(self) -> None:
        """Start schedulers and a supervisor on each host."""
        super().start()
        for _ in range(self._load.hosts - 1):
            self._start_again("supervisor", self._be_supervisor)

    def note(self, text: str) -> None:
        """Keep no trace: there are thousands of calls."""

    def judge_sending(self, event_id: str, endpoint: str, host: Host) -> None:
        """Judge nothing: repeats are counted at the end."""

    def _be_supervisor(self, host: Host) -> None:
        self._named += 1
        named = structs.replace(self.settings.host, name=f"host-{self._named}")
        settings = replace(self.settings, host=named)
        wakeup = seams.Wakeup(self.loop)
        store = Store(settings, "redis://simulated")
        launcher = _Launcher(self, store)
        host.on_death.append(launcher.abandon)
        Supervisor(store, settings, launcher, seams.Stop(wakeup)).run()  # type: ignore[arg-type]


def play(load: Load, seed: int = 2) -> Played:
    """Push the events before a tick, let the run of that tick pass, and judge it.

    An odd `seed` drains a few items at a time, so that its plan needs an estimate.
    """
    began, world = time.perf_counter(), ManyHosts(seed, load)
    with world.in_place():
        world.start()
        world.loop.run(WINDOW_SECONDS - 0.5)  # all workers are up
        items = [
            json.dumps({"id": f"i{number}", "wallet_name": "w", "events": [f"T{number % load.types}"]}).encode()
            for number in range(load.events)
        ]
        world.store.intake.push(items)
        record = _record(world, load)
        complaints = [f"{name} crashed: {error}" for name, error in world.loop.crashes]
        complaints += [f"the books do not balance: {fault}" for fault in books(world.store).faults]
    called: dict[str, list[Any]] = {}
    arrivals = [one for one in world.arrivals if one.run_id == record["run_id"]]  # the next run has begun
    for one in world.arrivals:
        called.setdefault(one.endpoint, []).append(one)
    ruled = [(one, rule) for one in all_limited(world.settings.endpoints.values()) for rule in one.limit.rules]
    worst = max(recount(called.get(one.name, []), rule) for one, rule in ruled)
    complaints += [f"{worst} calls in a period"] if worst > CALLS else []
    complaints += ["an event was sent twice"] if len({one.event_id for one in arrivals}) < len(arrivals) else []
    counts, plan = record["counts"], record["plan"]
    if counts["completed"] + counts["leftover"] != load.events:
        complaints.append(f"{counts} of {load.events} events")
    return Played(
        load,
        len(world.living("supervisor")),
        record["workers"]["peak"],
        len(arrivals),
        counts["completed"],
        counts["leftover"],
        plan["expected_leftover"],
        plan["forecast_seconds"],
        plan.get("actual_seconds", 0.0),
        worst,
        [*world.complaints, *complaints],
        time.perf_counter() - began,
    )


def _record(world: World, load: Load) -> dict[str, Any]:
    """Let time pass until the run with the load is on record."""
    while world.loop.now < 4 * WINDOW_SECONDS:
        world.loop.run(world.loop.now + 0.5)
        for run_id in world.store.runs.history(5):
            record = world.store.runs.record(run_id)
            if record and record["counts"]["taken"]:
                return record
    raise AssertionError(f"no run took the {load.events} events")


def main() -> None:
    """Play an installation of this size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("types", 5), ("each", 50), ("hosts", 25), ("workers-here", 4), ("events", 16_000)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    played = play(Load(asked.types, asked.each, asked.hosts, asked.workers_here, asked.events))
    print(played.lines())
    raise SystemExit(bool(played.complaints))


if __name__ == "__main__":
    main()
