"""The situations of a bad day: what is pushed, what is done to the system and when, what must be said of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm.endpoint import Limit
from rlm.mockapi.limiter import StrictWindow
from tests.acceptance.system import make_item
from tests.faults.test_bad_days import forecast
from tests.faults.test_poison import Poison
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from tests.acceptance.system import System

#: Three types of their own endpoints, of which the last two share a budget. Divided by ten, a window is 18 s.
DOCUMENT = """
[queue]
failed_alarm = 25
[types.A]
priority = 5
processing_seconds = 2.0
rate_limit = "30/minute"
endpoints = [ { name = "a1", url = "http://127.0.0.1:1/a1" }, { name = "a2", url = "http://127.0.0.1:1/a2" } ]
[types.B]
priority = 3
processing_seconds = 1.0
rate_limit = "30/minute"
endpoints = [ { name = "b1", url = "http://127.0.0.1:1/b1", budget = "account" } ]
[types.C]
priority = 1
processing_seconds = 1.0
rate_limit = "30/minute"
endpoints = [ { name = "c1", url = "http://127.0.0.1:1/c1", budget = "account" } ]
[budgets.account]
rate_limit = "60/minute"
"""


@dataclass(frozen=True)
class Day:
    """A situation: `events` of each type; what is done `before` the run and in its `middle`; what must be said of it.

    The middle is after so many `calls`.
    `options` are those of the system; what lasts as long as the run is `around` it, which `begins` it and returns its
    id. What changes is known by what `knows` tells. `causes` are those that types must have that were left over. Of
    the `alarms` each must be raised once; those that `may_ring` depend on the moment. `failed` events become dead
    letters. Where there is nothing to foretell, `unforeseen` says why.
    """

    events: Mapping[str, int] = field(default_factory=lambda: {"A": 60, "B": 30, "C": 30})
    options: Callable[[], Mapping[str, Any]] = dict
    around: Callable[[System], AbstractContextManager[Any]] = nullcontext
    before: Callable[[System], Any] = lambda _system: None
    begins: Callable[[System], str] = lambda system: system.ask_for_run()
    calls: int = 20
    middle: Callable[[System], Any] = lambda _system: None
    knows: Callable[[System], Any] = lambda _system: True
    causes: dict[str, str] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    may_ring: tuple[str, ...] = ()
    state: str = "completed"
    failed: int | None = 0
    supervised: bool = True
    unforeseen: str = ""


def fault(name: str, **what: Any) -> Callable[[System], Any]:
    return lambda system: system.api.set_fault(name, **what)


def command(*words: str) -> Callable[[System], Any]:
    return lambda system: system.rlm(*words)


def faults(**each: dict[str, Any]) -> Callable[[System], Any]:
    return lambda system: [system.api.set_fault(name, **what) for name, what in each.items()]


def strict(name: str, limit: str) -> Callable[[System], Any]:
    """The API allows less than is configured here."""

    def act(system: System) -> None:
        system.api._service._by_name[name]._windows[0] = StrictWindow(Limit.parse(limit))

    return act


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
        system.stop(name, signal.SIGKILL)
        if again:
            system.start(name)

    return act


def freeze_redis(system: System) -> None:
    """The server does not answer for three seconds."""
    pid = int(system.store.client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    time.sleep(3.0)
    os.kill(pid, signal.SIGCONT)


def strike(system: System) -> None:
    """An event kills each worker that takes it, until it is a dead letter."""
    poison = Poison(system, "A40:A")
    wait_until(poison.strike, timeout=20, message="the event is a dead letter")


@contextmanager
def busy_machine(_system: System) -> Iterator[None]:
    """Others want the processors as well: two for each that there is."""
    with ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(other.kill)
        yield


@contextmanager
def no_api(system: System) -> Iterator[None]:
    """Nobody listens where the API was."""
    system.api.stop()
    try:
        yield
    finally:
        system.api.start()


@contextmanager
def slow_redis(system: System) -> Iterator[None]:
    """What is sent to it, and what it says, takes a while."""
    for proxy in system.proxies.values():
        proxy.delay_seconds = FAR_SECONDS
    try:
        yield
    finally:
        for proxy in system.proxies.values():
            proxy.delay_seconds = 0.0


#: A Redis in another place: from here to there, seconds.
FAR_SECONDS = 0.005
#: So long ago a tick was that no scheduler served, seconds.
LATE_SECONDS = 6.0
PARTS = 4


def ticked_just_now() -> dict[str, Any]:
    """Runs start on multiples of a part of the time since 1970: the last tick is now, the next years away."""
    return {"env": {"RLM_RUN__EVERY_SECONDS": str(int(time.time()) // PARTS)}}


def serve_late(system: System) -> str:
    """The scheduler was away when a tick came, and is back later."""
    system.stop("scheduler")
    due = PARTS * system.settings.run.every_seconds
    system.store.runs.note_tick(due - 60)
    time.sleep(max(0.0, due + LATE_SECONDS - time.time()))
    system.start("scheduler")
    return wait_until(system.store.runs.current, timeout=20, message="the late run is open").id


def host_clock_off(*names: str) -> Callable[[], dict[str, Any]]:
    path = {"PYTHONPATH": str(Path(__file__).parent / "hours_ahead")}
    return lambda: {"env_of": dict.fromkeys(names, path)}


def rests(*names: str) -> Callable[[System], bool]:
    """RLM has learned that endpoints do not do, and rests them."""

    def look(system: System) -> bool:
        _, views = system.store.windows.look([system.settings.endpoints[name] for name in names])
        return all(view.suspect for view in views.values())

    return look


def lacks_workers(system: System) -> Any:
    """Who starts workers was not heard of for as long as it takes to say so."""
    return forecast(system).get("shortage")


def has_workers(system: System) -> bool:
    return len(system.workers()) >= system.store.processes.wanted()


def conducts_again(system: System) -> bool:
    """The run is in the hands of a scheduler that lives."""
    holder = system.store.leases.holder()
    return holder is not None and f":{system.processes['scheduler'].pid}:" in holder


OVERLOAD = {"A": 300, "B": 200, "C": 100}
MANY = {"A": 200, "B": 60, "C": 60}
LONG = {"A": 150, "B": 60, "C": 60}
DAYS = {
    "a good day": Day(),
    "more than the limits allow": Day(OVERLOAD, causes={"A": "limit"}, alarms=("leftovers",), state="partial"),
    "a budget lowered": Day(
        OVERLOAD,
        middle=command("endpoint", "limit", "account", "10 per 6 second"),
        causes={"A": "limit", "B": "budget", "C": "budget"},
        alarms=("leftovers",),
        state="partial",
    ),
    "a limit lowered": Day(
        MANY,
        middle=command("endpoint", "limit", "a1", "2 per 6 second"),
        causes={"A": "limit"},
        alarms=("leftovers",),
        state="partial",
    ),
    "a limit raised": Day(
        OVERLOAD,
        before=command("endpoint", "limit", "a1", "2 per 6 second"),
        middle=command("endpoint", "limit", "a1", "30 per 6 second"),
        causes={"A": "limit"},
        alarms=("leftovers",),
        state="partial",
    ),
    "a limit set too high": Day(
        LONG,
        before=strict("c1", "12 per 6 second"),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("limit_too_high",),
        may_ring=("leftovers",),
        state="partial",
    ),
    "an only endpoint paused": Day(
        MANY,
        middle=command("endpoint", "pause", "c1"),
        causes={"C": "paused"},
        alarms=("leftovers",),
        state="partial",
    ),
    "one of two endpoints paused": Day(LONG, middle=command("endpoint", "pause", "a2")),
    "an endpoint resumed": Day(
        LONG, before=command("endpoint", "pause", "c1"), middle=command("endpoint", "resume", "c1")
    ),
    "no supervisor": Day(
        knows=lacks_workers,
        supervised=False,
        causes={"A": "failed"},
        alarms=("no_worker", "run_failed"),
        state="failed",
    ),
    "the supervisor killed": Day(
        MANY,
        calls=100,
        middle=kill("supervisor", again=False),
        knows=lacks_workers,
        causes={"A": "workers"},
        alarms=("process_died",),
        state="partial",
    ),
    "the supervisor killed and started again": Day(
        LONG, middle=kill("supervisor", again=True), knows=has_workers, may_ring=("process_died",)
    ),
    "half of the workers killed": Day(LONG, middle=kill_workers, alarms=("worker_died",)),
    "an event that kills its worker": Day(LONG, middle=strike, failed=1, may_ring=("worker_died", "no_worker")),
    "the scheduler killed and started again": Day(
        LONG, middle=kill("scheduler", again=True), knows=conducts_again, may_ring=("process_died",)
    ),
    "an API four times slower": Day(LONG, before=faults(a1={"slow": 4.0}, a2={"slow": 4.0})),
    "an API four times slower in mid-run": Day(LONG, middle=faults(a1={"slow": 4.0}, a2={"slow": 4.0})),
    "an API that answers 500": Day(
        before=fault("c1", status=500),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers",),
        state="partial",
    ),
    "an API that is down": Day(
        before=fault("c1", down=True),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers",),
        state="partial",
    ),
    "an API that goes down in mid-run": Day(
        LONG,
        middle=fault("c1", down=True),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers",),
        state="partial",
    ),
    "no API": Day(
        around=no_api,
        knows=rests("a1", "a2", "b1", "c1"),
        causes=dict.fromkeys("ABC", "resting"),
        alarms=4 * ("breaker_open",),
        state="partial",
    ),
    "an API that does not answer": Day(
        before=fault("c1", hang=True),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers",),
        state="partial",
    ),
    "an API that asks for a rest": Day(
        before=fault("c1", throttle=60.0),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("leftovers",),
        may_ring=("limit_too_high",),
        state="partial",
    ),
    "one of two endpoints down": Day(
        before=fault("a2", down=True),
        knows=rests("a2"),
        alarms=("breaker_open",),
        may_ring=("leftovers",),
        state="completed or partial",
    ),
    "an API that takes no token": Day(
        before=fault("c1", status=401),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("breaker_open",),
        may_ring=("leftovers", "dead_letters"),
        state="partial",
        failed=None,
    ),
    "an API that rejects all": Day(LONG, before=fault("c1", status=422), alarms=("dead_letters",), failed=60),
    "a tenth of the calls failing": Day(LONG, before=fault("a1", error_rate=0.1)),
    "a slow machine": Day(LONG, around=busy_machine),
    "a Redis far away": Day(LONG, options=lambda: {"env": {"RLM_RUN__GUARD_SECONDS": "0.2"}}, around=slow_redis),
    "Redis silent for three seconds": Day(LONG, middle=freeze_redis, may_ring=("redis_away", "clock_stepped")),
    "the clock of the workers' host off": Day(LONG, options=host_clock_off("supervisor")),
    "the clock of the scheduler's host off": Day(LONG, options=host_clock_off("scheduler")),
    "a run started late": Day(
        OVERLOAD,
        options=ticked_just_now,
        begins=serve_late,
        causes={"A": "limit"},
        alarms=("leftovers",),
        state="partial",
    ),
    "the run cancelled": Day(
        MANY,
        middle=command("cancel"),
        causes=dict.fromkeys("ABC", "cancelled"),
        state="cancelled",
        unforeseen="a cancelled run is over as soon as the calls under way are answered",
    ),
    "bad items among good": Day(LONG, before=push_bad),
    "the same pushed twice": Day(LONG, before=lambda system: push(system, LONG)),
    "more pushed in mid-run": Day(LONG, middle=lambda system: push(system, {"A": 30}, "more")),
}
