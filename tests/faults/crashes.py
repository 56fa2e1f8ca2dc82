"""Orders a running system to let one of its processes die at a given place; plays several systems side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlm.core.clock import isoformat
from rlm.ledger.leases import Reply
from rlm.ledger.processes import Process, Role
from tests.acceptance.system import System
from tests.stopwatch import Stopwatch
from tests.values import as_json
from tests.wait import wait_until

#: The two schedulers of a system, one of which stands by.
PAIR = ("scheduler", "standby")

#: Systems are started one at a time, because a dozen processes that start together delay each other.
_starting = threading.Lock()


class CrashingSystem(System):
    """A system whose schedulers read in one file where to die, its supervisor and the workers in another."""

    def __init__(self, directory: Path, **options: Any) -> None:
        directory.mkdir(exist_ok=True)
        self.files = {"scheduler": directory / "crash-scheduler", "worker": directory / "crash-worker"}
        at_conductor, at_worker = ({"RLM_CRASH_AT": f"@{file}"} for file in self.files.values())
        env_of = {**dict.fromkeys(PAIR, at_conductor), "supervisor": at_worker}
        super().__init__(directory, env_of=env_of, **options)

    def start_all(self) -> None:
        """Start two schedulers and a supervisor, and wait until they are ready."""
        self.start("supervisor")
        for name in PAIR:
            self.start_scheduler(name)
        wait_until(
            lambda: self.store.processes.register().living(Role.SUPERVISOR), timeout=30, message="a supervisor is alive"
        )
        wait_until(lambda: self.store.leases.read().holder, timeout=30, message="a scheduler holds the lease")
        self.await_standby()

    def await_standby(self) -> None:
        """Wait until both schedulers are registered: dead ones stay in the register for a while."""
        wait_until(
            lambda: {self.processes[name].pid for name in PAIR} <= {one.pid for one in self.schedulers()},
            timeout=30,
            message="one stands by",
        )

    def schedulers(self) -> list[Process]:
        """Return the schedulers in the register."""
        return self.store.processes.register().living(Role.SCHEDULER)

    def start_scheduler(self, name: str) -> None:
        """Start one of the two, or start it again."""
        self.start(name, "scheduler")

    def arm(self, whom: str, told: str) -> None:
        """Let the first `scheduler`, or `worker` or supervisor, that reaches a crash point die there."""
        file = self.files[whom]
        written = file.with_suffix(".new")
        written.write_text(told)
        written.rename(file)

    def await_crash(self, whom: str, timeout: float = 15.0) -> Stopwatch:
        """Wait for the crash; return the time since, without the processor waits of the surviving processes."""
        file = self.files[whom]
        told = file.read_text() if file.exists() else ""
        server = self.store.client.info("server")["process_id"]
        wait_until(lambda: not file.exists(), timeout=timeout, message=f"a {whom} dies at {told}")
        return Stopwatch(server, *(one.pid for one in self.processes.values()))

    def dead_scheduler(self) -> str:
        """Wait until one of the two was killed, and return its name."""
        name = wait_until(lambda: next((one for one in PAIR if self.processes[one].poll() is not None), None))
        assert self.processes.pop(name).returncode == -9
        return name

    def leader(self) -> int:
        """The process id of the scheduler that holds the lease, 0 if none does."""
        holder = self.store.leases.read().holder
        return int(holder.split(":")[1]) if holder else 0

    def run_of(self, tick: float) -> str | None:
        """The id of the run that counts from `tick`, seconds since 1970, open or closed."""
        current = self.store.runs.current()
        if current is not None and current.started_at == tick:
            return current.id
        started_at = isoformat(tick)
        history = self.store.runs.history(5)
        return next((one for one in history if as_json(self.store.runs.record(one))["started_at"] == started_at), None)

    def asked(self) -> Callable[[], Reply | None]:
        """Request a run without waiting for an answer; return a function that reads the answer."""
        request = self.store.schedule.request()
        return lambda: self.store.schedule.reply(request)


@contextmanager
def crashing(directory: Path, **options: Any) -> Iterator[CrashingSystem]:
    """Yield a system in its own directory; if the test fails, show the output of its processes."""
    with CrashingSystem(directory, **options) as system:
        try:
            with _starting:
                system.start_all()
            yield system
        except BaseException:
            for log in sorted(directory.glob("*.log")):
                print(f"--- {directory.name}/{log.name}\n{log.read_text(errors='replace')}")
            raise


def side_by_side(lanes: Mapping[str, Callable[[], None]]) -> None:
    """Play lanes, which mostly wait, at the same time; fail with the first failure."""
    with ThreadPoolExecutor(len(lanes)) as pool:
        played = [pool.submit(lane) for lane in lanes.values()]
    for lane in played:
        lane.result()
