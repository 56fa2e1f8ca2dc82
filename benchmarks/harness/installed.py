"""A conductor in this process, on its own real bundled server, with simulated workers and endpoints."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, Self

from rlm.core.clock import system_clock
from rlm.ledger import Store
from rlm.ledger.embedded import EmbeddedServer
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.processes.signals import StopSignals, Wakeup
from rlm.settings import load_settings
from scheduler.office import HandConductor
from tests.store import steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.core.run import Run

#: Seconds between two announcements of the workers, as of real ones.
ANNOUNCE_SECONDS = 3.5
PUSHED = 2000


class Shape(NamedTuple):
    """A number of types with a number of endpoints each, by one limit, and of workers with a number of lanes each."""

    types: int
    each: int
    workers: int
    threads: int
    limit: str

    @property
    def endpoints(self) -> int:
        return self.types * self.each

    @property
    def lanes(self) -> int:
        return self.workers * self.threads

    def document(self) -> str:
        """Return its configuration."""
        types = "".join(
            f'[types.T{number}]\nprocessing_seconds = 0.05\nrate_limit = "{self.limit}"\nendpoints = ['
            + ",".join(f'{{name="t{number}-{place}",url="http://h/{number}/{place}"}}' for place in range(self.each))
            + "]\n"
            for number in range(self.types)
        )
        return f"[workers]\nmax = {self.workers}\nthreads = {self.threads}\n{types}"


class Conducted:
    """An installation of a shape: its conductor is in this process, its workers exist only in the register."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.workers = [f"w{number}" for number in range(shape.workers)]
        self._stack = ExitStack()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        directory = Path(self._stack.enter_context(TemporaryDirectory()))
        self.config = directory / "rlm.toml"
        self.config.write_text(self.shape.document())
        self.settings = load_settings(self.config, {})
        self.url = self._stack.enter_context(EmbeddedServer(self.settings.data_dir)).url
        self.store = Store(self.settings, self.url)
        self._stack.callback(self.store.close)
        wakeup = Wakeup()
        self._stack.callback(wakeup.close)
        stop = self._stack.enter_context(StopSignals(wakeup))
        self.conductor = HandConductor(self.store, stop, allow_volatile=True)
        self._stack.callback(self.conductor.resign)
        self.conductor.campaign(5)
        self.token = self.conductor._leader.token  # noqa: SLF001  # the measured part is inside
        self._announce()
        announcer = threading.Thread(target=self._go_on_announcing, daemon=True)
        announcer.start()
        self._stack.callback(announcer.join)
        self._stack.callback(self._over.set)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(None, None, None)

    def _announce(self) -> None:
        now, shape = system_clock.now(), self.shape
        facts = WorkerState.READY, shape.threads, self.settings.revision
        for number, name in enumerate(self.workers):
            self.store.processes.announce(Role.WORKER, Process(name, number + 1, f"host-{number}", now, *facts))

    def _go_on_announcing(self) -> None:
        while not self._over.wait(ANNOUNCE_SECONDS):
            self._announce()

    def start_run(self, events: int, window_seconds: float) -> Run:
        """Start a run of `events` events, spread evenly over the types."""
        names = [one.name for one in self.settings.event_types]
        for first in range(0, events, PUSHED):
            numbers = range(first, min(events, first + PUSHED))
            self.store.intake.push([steps.item(f"i{number}", names[number % len(names)]) for number in numbers])
        run = steps.start_run(self.store, self.token, window_seconds)
        self.store.publish_limits(self.token)
        return run

    @contextmanager
    def fleet(self, processes: int, threads: int) -> Iterator[list[int]]:
        """Let processes take calls, each as one worker with `threads` active lanes; yield their pids."""
        names = self.workers[:processes]
        command = [sys.executable, "-m", "benchmarks.harness.fleet", str(self.config), self.url, str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started = [subprocess.Popen([*command, name], **pipes) for name in names]
        try:
            for one in started:
                assert one.stdout is not None
                assert one.stdout.readline(), "a process of the fleet has ended"
            yield [one.pid for one in started]
        finally:
            for one in started:
                one.kill()
                one.wait()
