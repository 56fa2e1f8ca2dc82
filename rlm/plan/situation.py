"""The input of a plan, in seconds, and the start of a simulation, in ticks: demands, routes, windows, busy lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from rlm.core.call import Expected, Pair, needed_seconds
from rlm.core.endpoint import EventType, WindowState, all_limited, shut_by
from rlm.plan.window import SimulatedWindow, duration, ticks, windows_of


class Underway(msgspec.Struct, frozen=True):
    """A call that is under way when the plan is made; it began `age_seconds` ago."""

    type: str
    endpoint: str
    age_seconds: float


class RunProgress(msgspec.Struct, frozen=True):
    """The progress of a run whose rest is planned: the calls under way, and by type the calls begun so far."""

    underway: tuple[Underway, ...] = ()
    begun: Mapping[str, int] = {}


class Workload(msgspec.Struct, frozen=True):
    """The work to plan and the conditions for it.

    `backlog` counts the waiting events by type. Types that are not among `types` are left out, because a run makes
    their events dead letters. `types` are the configured types in descending priority. `windows` are those of endpoints
    and budgets by name; a missing one is fresh. `expected` is what was measured of calls, if known.
    """

    backlog: Mapping[str, int]
    types: Sequence[EventType]
    windows: Mapping[str, WindowState] = {}
    expected: Mapping[Pair, Expected] = {}
    progress: RunProgress = RunProgress()


class Capacity(msgspec.Struct, frozen=True):
    """How many workers there may be, and how many lanes (`threads`) each has.

    `turnaround_seconds` is what a lane needs from an answer to its next call.
    """

    min_workers: int
    max_workers: int
    threads: int
    turnaround_seconds: float = 0.0

    @property
    def lanes(self) -> int:
        """The lanes of the most workers allowed."""
        return self.max_workers * self.threads

    def exactly(self, workers: int | None) -> Capacity:
        """Return the capacity for exactly this number of workers, even if it is not allowed; unchanged for None."""
        return self if workers is None else replace(self, min_workers=workers, max_workers=workers)


class Horizon(msgspec.Struct, frozen=True):
    """When calls must be answered, when they should be, and what is added to every period. Seconds.

    Calls to an endpoint are kept its period and the guard apart, and a slot is used again `refill_seconds` after that;
    calls of idle lanes begin `apart_seconds` after each other. An event whose call fails is tried again
    `backoff_seconds` later, and left over after `max_attempts`. Times count from the moment planned for, when
    `gone_seconds` of the run have passed; sentences count from the run's start.
    """

    deadline_seconds: float
    target_seconds: float
    guard_seconds: float
    max_attempts: int = 3
    backoff_seconds: float = 0.5
    gone_seconds: float = 0.0
    refill_seconds: float = 0.0
    apart_seconds: float = 0.0


class Route(msgspec.Struct, frozen=True):
    """An endpoint for a type's events: a call's time, the latest beginning, and the share that fails.

    `windows` are the names of the endpoint and of its budget, if it has one.
    """

    windows: tuple[str, ...]
    takes: int
    latest: int
    error_rate: float


class Demand(msgspec.Struct, frozen=True):
    """A type's waiting events and their routes, the primary's first.

    `begun` of its events have begun already. `share` is the part of all begun events that the type should get.
    """

    name: str
    events: int
    routes: tuple[Route, ...]
    share: float
    begun: int

    @property
    def takes(self) -> int:
        """The shortest duration of a call."""
        return min(route.takes for route in self.routes)


class Busy(msgspec.Struct, frozen=True):
    """A lane with a call of a type under way, and when that ends; one to a suspect endpoint is not answered well."""

    type: str
    ends_at: int
    is_answered: bool


class Situation(msgspec.Struct, frozen=True):
    """Everything that a simulation starts from, except the number of lanes.

    Demands are in descending priority; `windows` are those of the rules of endpoints and budgets by name, `shut` says
    why some rest. Calls begin `apart`; a
    lane needs a `turnaround` between two. A failed call is tried again after a `backoff`, `max_attempts` times in all.
    In a run under way lanes may be `busy`. Moments count from the one planned for, which is `gone` after the run's
    start.
    """

    demands: tuple[Demand, ...]
    windows: Mapping[str, list[SimulatedWindow]]
    shut: Mapping[str, str]
    busy: tuple[Busy, ...]
    deadline: int
    turnaround: int
    apart: int
    max_attempts: int
    backoff: int
    gone: int

    @classmethod
    def of(cls, workload: Workload, horizon: Horizon, turnaround_seconds: float = 0.0) -> Situation:
        """Return the situation of a workload, with its times converted to ticks."""
        deadline, progress = ticks(horizon.deadline_seconds), workload.progress
        added = ticks(horizon.guard_seconds + horizon.refill_seconds)
        limited = all_limited(end for kind in workload.types for end in kind.endpoints)
        busy = _busy(workload, progress.underway)
        answered = Counter(call.type for call in busy if call.is_answered)
        back = Counter(call.type for call in busy) - answered  # what is not expected to succeed waits again
        return cls(
            demands=tuple(
                Demand(
                    kind.name,
                    workload.backlog.get(kind.name, 0) + back[kind.name],
                    tuple(_routes(kind, deadline, workload.expected)),
                    kind.share,
                    max(0, progress.begun.get(kind.name, 0) - back[kind.name]),
                )
                for kind in workload.types
            ),
            windows={
                each.name: windows_of(each, workload.windows.get(each.name, WindowState()), added) for each in limited
            },
            shut={name: why for name, window in workload.windows.items() if (why := shut_by(window))},
            busy=tuple(busy),
            deadline=deadline,
            turnaround=ticks(turnaround_seconds),
            apart=ticks(horizon.apart_seconds),
            max_attempts=horizon.max_attempts,
            backoff=ticks(horizon.backoff_seconds),
            gone=ticks(horizon.gone_seconds),
        )

    @property
    def events(self) -> int:
        """The waiting events of all types."""
        return sum(demand.events for demand in self.demands)


def _routes(kind: EventType, deadline: int, expected: Mapping[Pair, Expected]) -> list[Route]:
    routes, usual = [], Expected(kind.processing_seconds, kind.processing_seconds)
    for end in kind.endpoints:
        call = expected.get((kind.name, end.name), usual)
        takes, names = duration(call.seconds), tuple(each.name for each in all_limited([end]))
        routes.append(Route(names, takes, deadline - max(takes, ticks(call.needed_seconds)), call.error_rate))
    return routes


def _busy(workload: Workload, calls: Sequence[Underway]) -> list[Busy]:
    """Return the busy lanes. A call ends when expected; an overdue one after as long again, capped by its time-out."""
    expected, busy = workload.expected, []
    ends = {(kind.name, end.name): (kind, end) for kind in workload.types for end in kind.endpoints}
    for call in calls:
        if there := ends.get(pair := (call.type, call.endpoint)):
            kind, end = there
            left = (expected[pair].seconds if pair in expected else kind.processing_seconds) - call.age_seconds
            left = left if left >= 0 else min(-left, end.timeout_seconds - call.age_seconds)
            suspect = call.endpoint in workload.windows and workload.windows[call.endpoint].suspect
            busy.append(Busy(call.type, duration(left), not suspect))
    return busy


def stuck(
    calls: Sequence[Underway], types: Sequence[EventType], expected: Mapping[Pair, Expected]
) -> dict[Pair, Expected]:
    """Return what to expect where most calls under way take twice as long as nearly all should: their time-out."""
    there, late = Counter((call.type, call.endpoint) for call in calls), Counter[Pair]()
    pairs = {(kind.name, end.name): (kind, end) for kind in types for end in kind.endpoints}
    for call in calls:
        if (pair := (call.type, call.endpoint)) in pairs:
            late[pair] += call.age_seconds > 2 * needed_seconds(pairs[pair][0], call.endpoint, expected)
    return {
        pair: Expected(end.timeout_seconds, end.timeout_seconds)
        for pair, (_, end) in pairs.items()
        if 2 * late[pair] > there[pair]
    }
