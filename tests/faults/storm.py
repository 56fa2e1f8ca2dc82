"""Faults composed at random, window after window, on real processes: `python -m tests.faults.storm --windows 100`.

One system lives through all windows of a storm, time divided by ten. Each window is filled up to the limits, and some
five faults hit it; the seed decides which, when and for how long. Then everything is repaired. After every window its
record must balance; after every few, and at the end, windows without faults must do all remaining events.

An event may be answered twice only if that is nobody's fault: each kill, freeze or outage allows as many repeats as
there were calls in flight.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from rlm.core.errors import StoreError
from rlm.ledger.books import books
from rlm.ledger.connect import make_client
from rlm.ledger.processes import Role
from tests.acceptance.faultyapi import exceeded
from tests.acceptance.system import System, assert_balanced, make_item
from tests.leftbehind import nothing_left_behind
from tests.ownserver import OwnServer
from tests.values import as_json
from tests.wait import wait_until

#: Events that the limits allow in a window.
FULL = 1800
#: After so many windows with faults, all remaining events must be done without faults.
HEAL_EVERY = 5
#: Seconds that a run may be open after its deadline: a dead conductor is replaced within 5 s, and a fault may keep
#: Redis away at the deadline.
OVERDUE_SECONDS = 12.0
#: The exit status of a process that cannot reach Redis when it starts.
FOUND_NO_REDIS = 4
#: The guard, seconds. The default divided by ten is 0.05, which two busy cores do not always keep.
GUARD_SECONDS = 0.1


@dataclass
class Tally:
    """The result of a storm."""

    windows: int = 0
    events: int = 0
    repeats: int = 0
    repeats_allowed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)


class Storm:
    """One system and the faults that hit it. Every method named in `FAULTS` causes one and repairs it."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.tally = Tally()
        self.events: list[str] = []
        self.records: list[dict[str, Any]] = []
        self.directory = directory
        self.server = OwnServer(directory / "redis")

    def run(self, windows: int, tell: Callable[[str], object] = print) -> Tally:
        """Live through `windows` windows with faults; raises AssertionError if a promise was broken."""
        (self.directory / "rlm").mkdir()
        self.server.start()
        env = {"RLM_RUN__GUARD_SECONDS": str(GUARD_SECONDS), "RLM_WORKERS__MAX": "12"}
        try:
            with System(self.directory / "rlm", redis_url=self.server.url, env=env) as self.system:
                self.start()
                for number in range(1, windows + 1):
                    tell(self.window(number))
                    if number % HEAL_EVERY == 0 or number == windows:
                        tell(self.heal())
        finally:
            self.server.__exit__()
        return self.tally

    def start(self) -> None:
        system = self.system
        system.start("scheduler")
        system.start("standby", "scheduler")
        system.start("supervisor")
        wait_until(lambda: system.store.leases.read().holder, timeout=40, message="a scheduler holds the lease")
        wait_until(
            lambda: system.store.processes.register().living(Role.SUPERVISOR),
            timeout=40,
            message="a supervisor is alive",
        )

    def start_again(self) -> None:
        """Start processes again that found no Redis when they came up, as who started them would."""
        for name, process in list(self.system.processes.items()):
            if (status := process.poll()) is not None:
                assert status == FOUND_NO_REDIS, f"{name} ended with {status}"
                self.system.start(name, "supervisor" if name == "supervisor" else "scheduler")

    # -- one window

    def window(self, number: int) -> str:
        system, rng = self.system, self.rng
        waiting = len(system.pending())
        new = max(0, rng.randint(FULL // 2, FULL) - waiting)
        types = system.types
        items = [
            make_item(f"s{self.seed}w{number}e{index}", types[index % len(types)], priority=rng.randint(0, 9))
            for index in range(new)
        ]
        self.events += system.push(items)
        run_id = self.ask()
        began = time.monotonic()
        run = system.store.runs.current()
        window = system.settings.run.window_seconds
        hit = []
        for at in sorted(rng.uniform(0.2, window * 0.8) for _ in range(rng.randint(3, 7))):
            time.sleep(max(0.0, began + at - time.monotonic()))
            fault = rng.choice(FAULTS)
            hit.append(f"{fault.__name__} at {time.monotonic() - began:.1f}")
            fault(self)
            self.start_again()
            self.tally.faults[fault.__name__] += 1
        for name in system.settings.endpoints:
            system.api.set_fault(name)
        record = wait_until(
            lambda: self.record(run_id), timeout=window + OVERDUE_SECONDS + 20, message=f"run {run_id} is closed"
        )
        self.judge(record, run.deadline if run else None)
        self.tally.windows += 1
        counts = record["counts"]
        return (
            f"window {number}: {record['state']} in {record['duration_seconds']:.1f} s, "
            f"{counts['completed']} completed, {counts['leftover']} left; {', '.join(hit)}"
        )

    def heal(self) -> str:
        """Check liveness: without faults all remaining events must be done."""
        windows = 0
        while True:
            run_id = self.ask()
            record = wait_until(lambda asked=run_id: self.record(asked), timeout=60, message=f"{run_id} is closed")
            self.judge(record, None)
            windows += 1
            if not record["counts"]["leftover"]:
                break
            assert windows < 4, record["counts"]
        assert not self.system.pending()
        repeats = sum(number - 1 for number in self.system.answered().values())
        self.tally.repeats, self.tally.events = repeats, len(self.events)
        assert repeats <= self.tally.repeats_allowed, f"{repeats} repeats, {self.tally.repeats_allowed} allowed"
        return f"healed in {windows} windows: {len(self.events)} events in all, {repeats} answered twice"

    def ask(self) -> str:
        """Request a run; it may take a while if the conductor has just died or an earlier run is open."""
        until = time.monotonic() + 40
        while time.monotonic() < until:
            self.start_again()
            with suppress(StoreError):
                request = self.system.store.schedule.request()
                reply = wait_until(
                    lambda asked=request: self.system.store.schedule.reply(asked), timeout=20, message="an answer"
                )
                if reply.run_id:
                    return reply.run_id
                wait_until(lambda open_id=reply.open: self.record(open_id), timeout=40, message="it is closed")
            time.sleep(0.1)
        raise AssertionError("no run could be started for 40 s")

    def record(self, run_id: str) -> dict[str, Any] | None:
        try:
            return as_json(self.system.store.runs.record(run_id))
        except StoreError:
            return None

    def judge(self, record: dict[str, Any], deadline: float | None) -> None:
        """Check the five promises for everything so far."""
        system = self.system
        self.records.append(record)
        self.tally.states[record["state"]] += 1
        assert_balanced(record)
        arrivals = system.api.arrivals
        done, letters = system.answered(), {one["event_id"] for one in system.letters()}
        lost = set(self.events) - set(done) - system.pending() - letters
        assert not lost, f"{len(lost)} events are lost, {sorted(lost)[:5]}"
        assert {one.event_id for one in arrivals} <= set(self.events)
        assert list(exceeded(arrivals, system.settings.endpoints.values())) == []
        refused = {name: one.refused for name, one in system.api.summary().items() if one.refused}
        assert not refused, f"refused by their limit: {refused}"
        assert books(system.store).faults() == []
        system.assert_counted()
        if deadline is not None:
            from rlm.core.clock import system_clock

            assert system_clock.now() - deadline < OVERDUE_SECONDS, "the run was closed too late"

    def allow(self, calls: int) -> None:
        """Let `calls` events be answered twice."""
        self.tally.repeats_allowed += calls

    def under_way(self) -> int:
        """Return how many calls all lanes may have in flight."""
        return len(self.workers()) * self.system.settings.workers.threads

    def workers(self) -> list[int]:
        with suppress(StoreError):
            return [pid for pid in self.system.workers() if Path(f"/proc/{pid}").exists()]
        return []

    # -- faults

    def kill_worker(self) -> None:
        """KILL one worker."""
        if workers := self.workers():
            self.allow(self.system.settings.workers.threads)
            _signal(self.rng.choice(workers), signal.SIGKILL)

    def freeze_worker(self) -> None:
        """STOP one worker, for less or more than its lease."""
        if workers := self.workers():
            self.allow(self.system.settings.workers.threads)
            self.freeze(self.rng.choice(workers), self.rng.uniform(0.2, 4.5))

    def kill_conductor(self) -> None:
        """KILL the scheduler that conducts; start another."""
        self.kill_role(self.conductor())

    def freeze_conductor(self) -> None:
        """STOP the scheduler that conducts, for less or more than its lease."""
        process = self.system.processes[self.conductor()]
        self.freeze(process.pid, self.rng.uniform(0.2, 5.0))

    def kill_standby(self) -> None:
        """KILL the other scheduler."""
        self.kill_role("standby" if self.conductor() == "scheduler" else "scheduler")

    def kill_supervisor(self) -> None:
        """KILL the supervisor: its workers exit once they have finished their calls."""
        self.kill_role("supervisor")

    def kill_redis(self) -> None:
        """KILL the server, and restart it after a moment with its append-only file."""
        self.allow(self.under_way())
        _signal(self.server_pid(), signal.SIGKILL)
        time.sleep(self.rng.uniform(0.0, 1.5))
        self.server.start()

    def freeze_redis(self) -> None:
        """STOP the server."""
        self.allow(self.under_way())
        self.freeze(self.server_pid(), self.rng.uniform(0.1, 4.0))

    def cut_connections(self) -> None:
        """Cut every connection to the server at once."""
        self.allow(self.under_way())
        with suppress(redis.RedisError, StoreError):
            self.client().client_kill_filter(_type="normal", skipme=True)

    def flush_scripts(self) -> None:
        """Let the server forget its scripts."""
        with suppress(redis.RedisError, StoreError):
            self.client().script_flush()

    def fill_memory(self) -> None:
        """Let the server refuse writes for a moment: OOM."""
        self.allow(self.under_way())
        with suppress(redis.RedisError, StoreError):
            self.client().config_set("maxmemory", 1)
            time.sleep(self.rng.uniform(0.1, 1.5))
            self.client().config_set("maxmemory", 0)

    def fail_endpoint(self) -> None:
        """Let one endpoint fail in some way until the window is over, or until another fault of it."""
        name = self.rng.choice(list(self.system.settings.endpoints))
        fault = self.rng.choice(
            [{"down": True}, {"hang": 0.5}, {"reset": 0.5}, {"error_rate": 0.5}, {"throttle": 0.5}, {"slow": 3.0}]
        )
        self.system.api.set_fault(name, **fault)

    def cancel_run(self) -> None:
        """Cancel the run, occasionally."""
        if self.rng.random() < 0.3:
            with suppress(StoreError):
                if run := self.system.store.runs.current():
                    self.system.store.runs.cancel(run.id)

    def conductor(self) -> str:
        with suppress(StoreError):
            holder = self.system.store.leases.read().holder or ""
            if f":{self.system.processes['standby'].pid}:" in holder:
                return "standby"
        return "scheduler"

    def kill_role(self, name: str) -> None:
        process = self.system.processes[name]
        process.kill()
        process.wait()
        self.system.start(name, "supervisor" if name == "supervisor" else "scheduler")

    def freeze(self, pid: int, seconds: float) -> None:
        if _signal(pid, signal.SIGSTOP):
            time.sleep(seconds)
            _signal(pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        return self.system.store.client

    def server_pid(self) -> int:
        with make_client(self.server.url) as client:
            return int(client.info("server")["process_id"])


#: Possible faults; one that occurs more often in the list is more likely.
FAULTS = (
    Storm.kill_worker,
    Storm.kill_worker,
    Storm.freeze_worker,
    Storm.kill_conductor,
    Storm.freeze_conductor,
    Storm.kill_standby,
    Storm.kill_supervisor,
    Storm.kill_redis,
    Storm.freeze_redis,
    Storm.cut_connections,
    Storm.flush_scripts,
    Storm.fill_memory,
    Storm.fail_endpoint,
    Storm.fail_endpoint,
    Storm.cancel_run,
)


def _signal(pid: int, signum: int) -> bool:
    """Send a signal to a process; return False if it is gone."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    """Run a storm and print its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}: python -m tests.faults.storm --windows {options.windows} --seed {seed}", flush=True)
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="rlm-storm-"))
    storm = Storm(directory, seed)
    try:
        with nothing_left_behind(directory):
            tally = storm.run(options.windows, lambda line: print(line, flush=True))
    except AssertionError as error:
        print(f"BROKEN with seed {seed}: {error}\nlogs: {directory}", flush=True)
        return 1
    print(
        f"kept: {tally.windows} windows in {time.monotonic() - began:.0f} s, {tally.events} events, none lost, "
        f"no limit exceeded, {tally.repeats} answered twice of {tally.repeats_allowed} allowed\n"
        f"states: {dict(tally.states)}\nfaults: {sum(tally.faults.values())} {dict(tally.faults)}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
