"""The situations of a bad day: the load, what is done to the system and when, and what RLM must say."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.faults.mishaps import (
    busy_machine,
    command,
    conducts_again,
    fault,
    faults,
    freeze_redis,
    has_workers,
    host_clock_off,
    kill,
    kill_workers,
    no_api,
    push,
    push_bad,
    rests,
    serve_late,
    slow_redis,
    strict,
    strike,
    ticks_soon,
)
from tests.faults.test_bad_days import lacks_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from tests.acceptance.system import System

#: Three types with their own endpoints, the last two of which share a budget. Divided by ten, a window is 18 s.
DOCUMENT = """
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
    """A situation: `events` of each type; what is done `before` the run and in its `middle`; and the expectations.

    `options` are those of the system; `around` lasts as long as the run; `begins` starts it and returns its id. Its
    middle comes after `calls` calls. `knows` returns whether RLM can know the change. `causes` are the causes that
    types with leftovers must have. Each of the conditions `alarms` must be told once; those in `may_ring` depend on the
    moment.
    `failed` events become dead letters. A scheduler and a supervisor exist before the run if it is `scheduled` and
    `supervised`. If nothing can be predicted, `unforeseen` says why.
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
    scheduled: bool = True
    supervised: bool = True
    unforeseen: str = ""


OVERLOAD = {"A": 300, "B": 200, "C": 100}
MANY = {"A": 200, "B": 60, "C": 60}
#: What can be done while nothing happens for some seconds.
SPARE = {"A": 80, "B": 40, "C": 40}
LONG = {"A": 130, "B": 60, "C": 60}
SLOWER = faults(a1={"slow": 4.0}, a2={"slow": 4.0})
DAYS = {
    "a good day": Day(),
    "more than the limits allow": Day(OVERLOAD, causes={"A": "slots"}, alarms=("leftovers",), state="partial"),
    "a budget lowered": Day(
        OVERLOAD,
        middle=command("endpoint", "limit", "account", "10 per 6 second"),
        causes={"A": "slots", "B": "slots", "C": "slots"},
        alarms=("leftovers",),
        state="partial",
    ),
    "a limit lowered": Day(
        MANY,
        middle=command("endpoint", "limit", "a1", "2 per 6 second"),
        causes={"A": "slots"},
        alarms=("leftovers",),
        state="partial",
    ),
    "a limit raised": Day(
        OVERLOAD,
        before=command("endpoint", "limit", "a1", "2 per 6 second"),
        middle=command("endpoint", "limit", "a1", "30 per 6 second"),
        causes={"A": "slots"},
        alarms=("leftovers",),
        state="partial",
    ),
    "a limit set too high": Day(
        LONG,
        options=lambda: {"env": {"RLM_WORKERS__MIN": "4"}},  # so that C is called at once, and again well in time
        before=strict("c1", "12 per 6 second"),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("endpoint_throttled",),
        state="partial",
        unforeseen="how many calls the API lets through shows only as it does",
    ),
    "an only endpoint paused": Day(
        MANY,
        middle=command("endpoint", "pause", "c1"),
        causes={"C": "paused"},
        state="partial",
    ),
    "one of two endpoints paused": Day(SPARE, middle=command("endpoint", "pause", "a2")),
    "an endpoint resumed": Day(
        LONG, before=command("endpoint", "pause", "c1"), middle=command("endpoint", "resume", "c1")
    ),
    "no supervisor": Day(
        knows=lacks_workers,
        supervised=False,
        causes={"A": "failed"},
        alarms=("no_supervisor", "run_failed"),
        state="failed",
    ),
    "the supervisor killed": Day(
        MANY,
        calls=150,
        middle=kill("supervisor", again=False),
        knows=lacks_workers,
        causes={"A": "workers"},
        alarms=("no_supervisor",),
        may_ring=("host_silent",),
        state="partial",
    ),
    "the supervisor killed and started again": Day(
        SPARE,
        middle=kill("supervisor", again=True),
        knows=has_workers,
        may_ring=("host_silent", "no_supervisor", "no_worker"),
    ),
    "half of the workers killed": Day(LONG, middle=kill_workers, may_ring=("workers_missing",)),
    "an event that kills its worker": Day(
        LONG,
        middle=strike,
        failed=1,
        may_ring=("workers_missing", "no_worker"),
        unforeseen="it has killed three workers only when most is done",
    ),
    "the scheduler killed and started again": Day(
        SPARE, middle=kill("scheduler", again=True), knows=conducts_again, may_ring=("host_silent", "no_scheduler")
    ),
    # Its calls take eight tenths of their time-out.
    "an API four times slower": Day(LONG, before=SLOWER, may_ring=("endpoint_slow",)),
    "an API four times slower in mid-run": Day(
        LONG,
        middle=SLOWER,
        # The first 60 calls there begin before it is slow: only then calls show it.
        knows=lambda system: sum(call.endpoint in {"a1", "a2"} for call in system.api.arrivals) > 72,
        may_ring=("endpoint_slow",),
    ),
    "an API that answers 500": Day(
        before=fault("c1", status=500),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("endpoint_failing", "no_endpoint"),
        state="partial",
    ),
    "an API that is down": Day(
        before=fault("c1", down=True),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("endpoint_failing", "no_endpoint"),
        state="partial",
    ),
    "an API that goes down in mid-run": Day(
        LONG,
        middle=fault("c1", down=True),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("endpoint_failing", "no_endpoint"),
        state="partial",
    ),
    "no API": Day(
        around=no_api,
        knows=rests("a1", "a2", "b1", "c1"),
        causes=dict.fromkeys("ABC", "resting"),
        alarms=4 * ("endpoint_failing",),
        may_ring=("no_endpoint",),
        state="partial",
    ),
    "an API that does not answer": Day(
        before=fault("c1", hang=True),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("endpoint_failing", "no_endpoint"),
        state="partial",
    ),
    "an API that asks for a rest": Day(
        LONG,
        before=fault("c1", throttle=60.0),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("endpoint_throttled",),
        state="partial",
    ),
    "one of two endpoints down": Day(
        before=fault("a2", down=True),
        knows=rests("a2"),
        alarms=("endpoint_failing",),
        may_ring=("leftovers",),
        state="completed or partial",
    ),
    "an API that takes no token": Day(
        LONG,
        before=fault("c1", status=401),
        knows=rests("c1"),
        causes={"C": "resting"},
        alarms=("endpoint_failing", "no_endpoint"),
        may_ring=("leftovers", "dead_letters"),
        state="partial",
        failed=None,
    ),
    "an API that rejects all": Day(LONG, before=fault("c1", status=422), alarms=("dead_letters",), failed=60),
    "a tenth of the calls failing": Day(
        LONG,
        before=fault("a1", error_rate=0.1),
        unforeseen="a call is planned once: which ones fail, and take a slot again, shows only as they do",
    ),
    "a slow machine": Day(SPARE, around=busy_machine, may_ring=("redis_slow",)),
    "a Redis far away": Day(LONG, options=lambda: {"env": {"RLM_RUN__GUARD_SECONDS": "0.2"}}, around=slow_redis),
    "Redis silent for three seconds": Day(
        SPARE, middle=freeze_redis, may_ring=("redis_away", "redis_doubted", "no_scheduler")
    ),
    "the clock of the workers' host off": Day(LONG, options=host_clock_off("supervisor")),
    "the clock of the scheduler's host off": Day(LONG, options=host_clock_off("scheduler"), alarms=("clock_apart",)),
    "a run started late": Day(
        OVERLOAD,
        options=ticks_soon,
        scheduled=False,
        begins=serve_late,
        causes={"A": "slots"},
        alarms=("leftovers",),
        may_ring=("no_scheduler",),  # for so long there is none
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
