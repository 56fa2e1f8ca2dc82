"""The poison sweep: each key family of a running system poisoned in each way; what was delivered, died, was named.

uv run python -m tests.faults.sweep [--open] [--only FAMILY]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlm.admin.doctor import examine
from rlm.core.errors import StoreError
from rlm.ledger.embedded import EmbeddedServer
from tests.acceptance.system import System, make_item
from tests.faults.poisons import OF_RUN, all_poisons
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from rlm.ledger.fitness import Finding
    from tests.faults.poisons import Poison

#: Ticks every two seconds; periods short enough to see a held window open again.
DOCUMENT = """
[run]
window_seconds = 2
every_seconds = 2
guard_seconds = 0.1
[retry]
timeout_seconds = 1.0
[workers]
min = 2
max = 2
[types.ALPHA]
priority = 5
processing_seconds = 0.05
rate_limit = "10 per 1 second"
endpoints = [
  { name = "a1", url = "http://127.0.0.1:1/a1", budget = "shared" }, { name = "a2", url = "http://127.0.0.1:1/a2" },
]
[types.BETA]
priority = 4
processing_seconds = 0.05
rate_limit = "10 per 1 second"
endpoints = [ { name = "b1", url = "http://127.0.0.1:1/b1" } ]
[budgets.shared]
rate_limit = "15 per 1 second"
"""
#: Seconds for events that nobody poisoned: a tick, a held window, and a busy machine.
PATIENCE_SECONDS = 12.0
#: Seconds until `rlm doctor` must report nothing more.
HEALED_SECONDS = 10.0


@dataclass(frozen=True)
class Outcome:
    """The result of one poison: `missing` events, who `died`, whether doctor `named` it, and its remaining faults."""

    poison: str
    missing: int
    died: str
    named: bool
    still: str

    @property
    def ok(self) -> bool:
        return not (self.missing or self.died or self.still) and self.named


class Patient:
    """A running system that is poisoned repeatedly; it is replaced after a poison that it did not survive."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        self.worker = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _begin(self) -> None:
        self._number += 1
        place = self._directory / f"system-{self._number}"
        (place / "server").mkdir(parents=True)
        self._stack = ExitStack()
        server = self._stack.enter_context(EmbeddedServer(place / "server"))
        options = {"document": DOCUMENT, "speed": 1.0, "redis_url": server.url, "ticks": True}
        self.system = self._stack.enter_context(System(place, **options))
        self.system.start_both()
        self.worker = wait_until(self.a_worker, timeout=40, message="a worker is ready")
        self._deliver("first")

    def a_worker(self) -> str:
        """Return the id of a ready worker, once two are ready; a different one each time.

        A worker whose entry is poisoned repeatedly, before it has announced itself, would count as frozen.
        """
        ready = [one.id for one in self.system.store.processes.alive("worker") if one.state == "ready"]
        return next(one for one in ready if one != self.worker) if len(ready) > 1 else ""

    def poisons(self) -> dict[str, Poison]:
        """Return all its possible poisons at present, by name."""
        return {one.name: one for one in all_poisons(self.system.store, self.worker)}

    def renew(self) -> None:
        """Replace this system by another."""
        for name in ("scheduler", "supervisor"):
            if name in self.system.processes:
                self.system.processes[name].kill()
        for pid in self.pids:
            pid_kill(pid)
        self._stack.close()
        self._begin()

    @property
    def pids(self) -> list[int]:
        try:
            return self.system.workers()
        except Exception:  # noqa: BLE001  # the register may be what was poisoned
            return []

    def _deliver(self, name: str, number: int = 3) -> int:
        """Push events of each type; return how many of them were not answered in time."""
        system = self.system
        events = set(system.push([make_item(f"{name}{index}", one) for index in range(number) for one in system.types]))
        return len(events - self._answered(events))

    def _answered(self, events: set[str]) -> set[str]:
        """Return those answered in time, or dead letters: the poisoned event may become one."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not events <= (done := self._done()) and time.monotonic() < until:
            time.sleep(0.05)
        return done

    def _done(self) -> set[str]:
        system, letters = self.system, set()
        with suppress(StoreError):
            letters = {one["event_id"] for one in system.letters()}
        return set(system.answered()) | letters

    def suffer(self, poison_name: str, number: int, *, during: bool) -> Outcome:
        """Apply a poison, during a run or while idle, and return the result."""
        system = self.system
        log = len(system.log("supervisor"))
        name = f"e{number}-"
        if during:
            many = 40 if poison_name.startswith("event-") else 12  # an event has to wait, to be poisoned while it does
            events = set(system.push([make_item(f"{name}{n}", one) for n in range(many) for one in system.types]))
            wait_until(lambda: set(system.answered()) & events, timeout=10, message="a run is in its middle")
        poison = self.poisons()[poison_name]
        scheduler = system.processes["scheduler"]
        scheduler.send_signal(signal.SIGSTOP)  # else it may have mended the key before doctor looks
        try:
            poison.apply(system.store.client)
            named = self._named(poison)
        finally:
            scheduler.send_signal(signal.SIGCONT)
        missing = len(events - self._answered(events)) if during else self._push_and_await(name)
        if during and not missing:  # what was put into a run from outside stands in its books, until the next one
            missing = self._push_and_await(f"{name}next-", 1)
        died = "; ".join(one for one in ("scheduler", "supervisor") if system.processes[one].poll() is not None)
        died = died or ("worker" if "ended unexpectedly" in system.log("supervisor")[log:] else "")
        named = named or self._named(poison)
        still = "" if missing else self._still()
        if not missing:
            self.worker = wait_until(self.a_worker, timeout=HEALED_SECONDS, message="both workers are heard from again")
        return Outcome(poison.name, missing, died, named or not poison.named, still)

    def _push_and_await(self, name: str, number: int = 3) -> int:
        client, keys = self.system.store.client, self.system.store.keys
        wait_until(lambda: client.type(keys.events) in {b"list", b"none"}, timeout=PATIENCE_SECONDS, message="a list")
        return self._deliver(name, number)

    def _named(self, poison: Poison) -> bool:
        return any(poison.key in one.message for one in self._findings() if not one.ok)

    def _findings(self) -> list[Finding]:
        return list(examine(self.system.settings, allow_volatile=False).findings)

    def _still(self) -> str:
        """Return what `rlm doctor` still reports as a fault after some time."""
        until = time.monotonic() + HEALED_SECONDS
        while True:
            faults = [one for one in self._findings() if not one.ok and one.severity.value == "error"]
            if not faults or time.monotonic() > until:
                return "; ".join(one.message[:150] for one in faults)
            time.sleep(0.1)


def pid_kill(pid: int) -> None:
    """Kill a worker of an abandoned system."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def sweep(
    directory: Path, *, during: bool = False, wanted: Callable[[Poison], bool] = lambda _: True
) -> Iterator[Outcome]:
    """Poison everything that is `wanted`, one after the other; yield each result."""
    with Patient(directory) as patient:
        names = [one.name for one in patient.poisons().values() if wanted(one)]
        for number, name in enumerate(names):
            if name.partition("-")[0] in OF_RUN and not during:
                continue
            try:
                outcome = patient.suffer(name, number, during=during)
            except Exception as error:  # noqa: BLE001
                outcome = Outcome(name, -1, f"{type(error).__name__}: {error}"[:150], False, "")
            yield outcome
            if not outcome.ok:
                patient.renew()


def main() -> int:
    """Print each outcome and the figures; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", action="store_true")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="rlm-sweep-") as place:
        began = time.monotonic()
        for one in sweep(Path(place), during=given.open, wanted=lambda poison: given.only in poison.name):
            outcomes.append(one)
            if not one.ok:
                print(f"{one}", flush=True)
    bad = [one for one in outcomes if one.missing or one.died]
    print(
        f"{len(outcomes)} cases in {time.monotonic() - began:.0f} s: {sum(bool(one.missing) for one in outcomes)} "
        f"delivered too little, {sum(bool(one.died) for one in outcomes)} killed something, "
        f"{sum(not one.named for one in bad)} of those passed doctor, "
        f"{sum(not one.ok for one in outcomes)} amiss in all"
    )
    return int(not all(one.ok for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
