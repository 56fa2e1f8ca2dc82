"""The input of a plan, in seconds, and the start of a simulation, in ticks: demands, routes, windows, lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from rlm.core.endpoint import Endpoint, EventType, all_limited
from rlm.core.expected import Expected, Pair, needed_seconds
from rlm.core.window import WindowState
from rlm.plan.window import SimulatedWindow, duration, ticks

#: A window without calls.
FRESH: Final = WindowState()


class Underway(msgspec.Struct, frozen=True):
    """A call that is under way when the plan is made; it began `age_seconds` ago."""

    type: str
    endpoint: str
    age_seconds: float


class RunProgress(msgspec.Struct, frozen=True):
    """The progress of a run whose rest is planned: the calls under way, and by type the calls begun so far.

    `ready_lanes` of its lanes are ready now, the others after `coming_up_seconds`; None if all are ready.
    """

    underway: tuple[Underway, ...] = ()
    begun: Mapping[str, int] = msgspec.field(default_factory=dict)
    ready_lanes: int | None = None
    coming_up_seconds: float = 0.0


class Workload(msgspec.Struct, frozen=True):
    """The work to plan and the conditions for it.

    `backlog` counts the waiting events by type. Types that are not among `types` are left out, because a run makes
    their events dead letters. `types` are the configured types in descending priority. `windows` are those of endpoints
    and budgets by name; a missing one is fresh. `expected` is what was measured of calls, if known. `progress` is the
    progress of a run whose rest is planned; its calls under way are answered first.
    """

    backlog: Mapping[str, int]
    types: Sequence[EventType]
    windows: Mapping[str, WindowState] = msgspec.field(default_factory=dict)
    expected: Mapping[Pair, Expected] = msgspec.field(default_factory=dict)
    progress: RunProgress | None = None

    @property
    def suspects(self) -> set[str]:
        """The endpoints and budgets that failed and have not answered well since; plans do not use them."""
        return {name for name, window in self.windows.items() if window.suspect}


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
        if workers is None:
            return self
        return replace(self, min_workers=workers, max_workers=workers)


class Horizon(msgspec.Struct, frozen=True):
    """When calls must be answered, when they should be, and what is added to every period. Seconds.

    Calls to an endpoint are kept its period and the guard apart, and a slot is used again `refill_seconds` after that;
    calls of idle lanes begin `apart_seconds` after each other.
    An event whose call fails is tried again `backoff_seconds` later, and left over after `max_attempts`. Times count
    from the moment planned for, when `gone_seconds` of the run have passed; sentences count from the run's start.
    """

    deadline_seconds: float
    target_seconds: float
    guard_seconds: float
    max_attempts: int = 3
    backoff_seconds: float = 0.5
    gone_seconds: float = 0.0
    refill_seconds: float = 0.0
    apart_seconds: float = 0.0

    @property
    def added_seconds(self) -> float:
        """The time after a period until a slot is used again."""
        return self.guard_seconds + self.refill_seconds


class Route(msgspec.Struct, frozen=True):
    """An endpoint for a type's events: its budget, a call's time, the latest beginning, and the share that fails."""

    endpoint: str
    budget: str | None
    takes: int
    latest: int
    error_rate: float

    @property
    def windows(self) -> tuple[str, ...]:
        """The names of the endpoint and its budget."""
        return (self.endpoint,) if self.budget is None else (self.endpoint, self.budget)


class Demand(msgspec.Struct, frozen=True):
    """A type's waiting events and their routes, the primary's first. `takes` is the shortest duration of a call.

    `begun` of its events have begun already. `share` is the part of all begun events that the type should get.
    """

    name: str
    events: int
    routes: tuple[Route, ...]
    takes: int
    share: float
    begun: int


class Busy(msgspec.Struct, frozen=True):
    """A lane with a call under way, and when that is answered.

    `type` is None for a call to a suspect endpoint, which is not expected to succeed; its event counts as waiting.
    """

    type: str | None
    answered_at: int


class Situation(msgspec.Struct, frozen=True):
    """Everything that a simulation starts from, except the number of lanes.

    Demands are in descending priority; `windows` are those of endpoints and budgets by name, with `added_seconds` after
    each period. Calls begin `apart`; a lane needs a `turnaround` between two. A failed call is tried again after a
    `backoff`, which doubles with each of the `max_attempts`. In a run under way lanes may be `busy`, and lanes beyond
    `ready_lanes` need `coming_up` to be ready; None if all are. Moments count from the one planned for, which is `gone`
    after the run's start.
    """

    demands: tuple[Demand, ...]
    windows: Mapping[str, SimulatedWindow]
    deadline: int
    turnaround: int = 0
    apart: int = 0
    max_attempts: int = 1
    backoff: int = 0
    busy: tuple[Busy, ...] = ()
    gone: int = 0
    ready_lanes: int | None = None
    coming_up: int = 0

    @classmethod
    def of(cls, workload: Workload, horizon: Horizon, turnaround_seconds: float = 0.0) -> Situation:
        """Return the situation of a workload, with its times converted to ticks."""
        types, suspects = workload.types, workload.suspects
        so_far = workload.progress or RunProgress()
        back = Counter(call.type for call in so_far.underway if call.endpoint in suspects)
        demands = []
        for kind in types:
            routes = _routes(kind, ticks(horizon.deadline_seconds), workload.expected)
            takes = min(route.takes for route in routes)
            events = workload.backlog.get(kind.name, 0) + back[kind.name]
            begun = max(0, so_far.begun.get(kind.name, 0) - back[kind.name])
            demands.append(Demand(kind.name, events, routes, takes, kind.share, begun))
        return cls(
            demands=tuple(demands),
            windows=_windows(workload, horizon.added_seconds),
            deadline=ticks(horizon.deadline_seconds),
            turnaround=ticks(turnaround_seconds),
            apart=ticks(horizon.apart_seconds),
            max_attempts=horizon.max_attempts,
            backoff=ticks(horizon.backoff_seconds),
            busy=tuple(_busy(types, demands, so_far.underway, suspects)),
            gone=ticks(horizon.gone_seconds),
            ready_lanes=so_far.ready_lanes,
            coming_up=ticks(so_far.coming_up_seconds),
        )

    @property
    def events(self) -> int:
        """The waiting events of all types."""
        return sum(demand.events for demand in self.demands)


def _routes(kind: EventType, deadline: int, expected: Mapping[Pair, Expected]) -> tuple[Route, ...]:
    usual = Expected(kind.processing_seconds, kind.processing_seconds)
    routes = []
    for each in kind.endpoints:
        call = expected.get((kind.name, each.name), usual)
        takes = duration(call.seconds)
        latest = deadline - max(takes, ticks(call.needed_seconds))
        routes.append(Route(each.name, _budget(each), takes, latest, call.error_rate))
    return tuple(routes)


def _budget(endpoint: Endpoint) -> str | None:
    return endpoint.budget.name if endpoint.budget else None


def _windows(workload: Workload, added_seconds: float) -> dict[str, SimulatedWindow]:
    limited = all_limited(each for kind in workload.types for each in kind.endpoints)
    return {
        each.name: SimulatedWindow.of(each, workload.windows.get(each.name, FRESH), added_seconds) for each in limited
    }


def _busy(
    types: Sequence[EventType], demands: Sequence[Demand], calls: Sequence[Underway], suspects: Collection[str]
) -> Iterator[Busy]:
    """Yield the busy lanes. A call ends when expected; an overdue one after as long again, capped by its time-out."""
    takes = {(demand.name, route.endpoint): route.takes for demand in demands for route in demand.routes}
    may_take = {(kind.name, each.name): ticks(each.timeout_seconds) for kind in types for each in kind.endpoints}
    for call in calls:
        usual = takes.get((call.type, call.endpoint))
        if usual is not None:
            age = ticks(call.age_seconds)
            due = usual - age
            if due < 0:
                due = min(-due, may_take[call.type, call.endpoint] - age)
            yield Busy(None if call.endpoint in suspects else call.type, max(1, due))


def stuck(
    calls: Sequence[Underway], types: Sequence[EventType], expected: Mapping[Pair, Expected]
) -> dict[Pair, Expected]:
    """Return what to expect where most calls under way take twice as long as nearly all should: their time-out."""
    there, late, found = Counter[Pair](), Counter[Pair](), {}
    kinds = {kind.name: kind for kind in types}
    for call in calls:
        if kind := kinds.get(call.type):
            pair = call.type, call.endpoint
            there[pair] += 1
            late[pair] += call.age_seconds > 2 * needed_seconds(kind, call.endpoint, expected)
    for kind in types:
        for end in kind.endpoints:
            pair = kind.name, end.name
            if 2 * late[pair] > there[pair]:
                found[pair] = Expected(end.timeout_seconds, end.timeout_seconds)
    return found
