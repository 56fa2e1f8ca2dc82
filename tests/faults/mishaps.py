"""Mishaps of a system on a bad day, and how to see that RLM can know of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.acceptance.system import make_item
from tests.faults.test_poison import Poison
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.acceptance.system import System


def fault(name: str, **what: Any) -> Callable[[System], Any]:
    return lambda system: system.api.set_fault(name, **what)


def command(*words: str) -> Callable[[System], Any]:
    return lambda system: system.rlm(*words)


def faults(**each: dict[str, Any]) -> Callable[[System], Any]:
    return lambda system: [system.api.set_fault(name, **what) for name, what in each.items()]


def strict(name: str, limit: str) -> Callable[[System], Any]:
    """Let the API allow less than the configured limit."""
    return lambda system: system.api.set_limit(name, limit)


def push(system: System, events: Mapping[str, int], prefix: str = "") -> list[str]:
    names = [(f"{prefix}{name}{index}", name) for name, number in events.items() for index in range(number)]
    return system.push([make_item(*one) for one in names])


def push_bad(system: System) -> None:
    system.push([make_item(f"u{number}", "GONE") for number in range(5)])
    system.store.intake.push([b"not json"] * 5)


def kill_workers(system: System) -> None:
    for pid in system.workers()[: max(1, len(system.workers()) // 2)]:
        os.kill(pid, signal.SIGKILL)


def kill(name: str, *, again: bool) -> Callable[[System], None]:
    def act(system: System) -> None:
        workers = set(system.workers()) if name == "supervisor" else set()  # they leave with it
        system.stop(name, signal.SIGKILL)
        if again:
            system.start(name)
        wait_until(lambda: not workers & set(system.workers()), timeout=20, message="its workers have left")

    return act


def freeze_redis(system: System) -> None:
    """Let the server give no answer for three seconds."""
    pid = int(system.store.client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    time.sleep(3.0)
    os.kill(pid, signal.SIGCONT)


def strike(system: System) -> None:
    """Let an event kill each worker that takes it, until it is a dead letter."""
    poison = Poison(system, "A40:A")
    wait_until(poison.strike, timeout=20, message="the event is a dead letter")


@contextmanager
def busy_machine(_system: System) -> Iterator[None]:
    """Let other processes compete for the processors: two for each of them."""
    with ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(other.kill)
        yield


@contextmanager
def no_api(system: System) -> Iterator[None]:
    """Let nobody listen at the API's address."""
    system.api.stop()
    try:
        yield
    finally:
        system.api.start()


@contextmanager
def slow_redis(system: System) -> Iterator[None]:
    """Delay requests to Redis and its answers."""
    for proxy in system.proxies.values():
        proxy.delay_seconds = FAR_SECONDS
    try:
        yield
    finally:
        for proxy in system.proxies.values():
            proxy.delay_seconds = 0.0


#: The way to a Redis in another place, seconds.
FAR_SECONDS = 0.005
#: How late a tick is served, seconds, and its number since 1970.
LATE_SECONDS = 4.0
PARTS = 4
#: Seconds until the system is up except for its scheduler.
SOON_SECONDS = 12.0


def ticks_soon() -> dict[str, Any]:
    """Set ticks to multiples of a part of the time since 1970: the next one is soon, the one after it years away."""
    return {"env": {"RLM_RUN__EVERY_SECONDS": str(int(time.time() + SOON_SECONDS) // PARTS)}}


def serve_late(system: System) -> str:
    """Start the scheduler only after a tick came."""
    due = PARTS * system.settings.run.every_seconds
    system.store.schedule.note_tick(due - 60)
    time.sleep(max(0.0, due + LATE_SECONDS - time.time()))
    system.start("scheduler")
    return wait_until(system.store.runs.current, timeout=20, message="the late run is open").id


def host_clock_off(*names: str) -> Callable[[], dict[str, Any]]:
    path = {"PYTHONPATH": str(Path(__file__).parent / "hours_ahead")}
    return lambda: {"env_of": dict.fromkeys(names, path)}


def rests(*names: str) -> Callable[[System], bool]:
    """Return a condition: RLM has noticed that endpoints fail, and rests them."""

    def look(system: System) -> bool:
        _, views = system.store.windows.look([system.settings.endpoints[name] for name in names])
        return all(view.suspect for view in views.values())

    return look


def has_workers(system: System) -> bool:
    return len(system.workers()) >= system.store.processes.register().wanted


def conducts_again(system: System) -> bool:
    """Return whether a living scheduler conducts the run."""
    holder = system.store.leases.read().holder
    return holder is not None and f":{system.processes['scheduler'].pid}:" in holder
