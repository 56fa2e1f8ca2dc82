"""The input of a plan, in seconds, and the start of a simulation, in ticks: demands, routes, windows, busy lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

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


class Workload(msgspec.Struct, frozen=True):
    """The work to plan and the conditions for it.

    `backlog` counts the waiting events by type. Types that are not among `types` are left out, because a run makes
    their events dead letters. `types` are the configured types in descending priority. `windows` are those of endpoints
    and budgets by name; a missing one is fresh. `expected` is what was measured of calls, if known. Of a run whose rest
    is planned there are calls under way, and `begun` counts by type those begun so far.
    """

    backlog: Mapping[str, int]
    types: Sequence[EventType]
    windows: Mapping[str, WindowState] = {}
    expected: Mapping[Pair, Expected] = {}
    underway: Sequence[Underway] = ()
    begun: Mapping[str, int] = {}


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

    A slot is used again a period and the guard after a call, and calls begin `apart_seconds` after each other. Times
    count from the moment planned for, when `gone_seconds` of the run have passed; sentences count from the run's start.
    """

    deadline_seconds: float
    target_seconds: float
    guard_seconds: float
    gone_seconds: float = 0.0
    apart_seconds: float = 0.0


class Route(msgspec.Struct, frozen=True):
    """An endpoint for a type's events: a call's time, and its latest beginning.

    `windows` are the names of the endpoint and of its budget, if it has one.
    """

    windows: tuple[str, ...]
    takes: int
    latest: int


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
    """Everything that a simulation starts from, except the number of lanes, in ticks from the moment planned for.

    Demands are in descending priority; `windows` are those of the rules of endpoints and budgets by name, `shut` says
    why some rest. A lane needs a `turnaround` between two calls. In a run under way lanes may be `busy`. The other
    fields are those of `Horizon`.
    """

    demands: tuple[Demand, ...]
    windows: Mapping[str, list[SimulatedWindow]]
    shut: Mapping[str, str]
    busy: tuple[Busy, ...]
    deadline: int
    turnaround: int
    apart: int
    gone: int

    @classmethod
    def of(cls, work: Workload, horizon: Horizon, turnaround_seconds: float = 0.0) -> Situation:
        """Return the situation of a workload, with its times converted to ticks."""
        deadline, added = ticks(horizon.deadline_seconds), ticks(horizon.guard_seconds)
        limited = all_limited(end for kind in work.types for end in kind.endpoints)
        busy, fresh = tuple(_busy(work)), WindowState()
        back = Counter(call.type for call in busy if not call.is_answered)  # they are not expected to succeed
        return cls(
            demands=tuple(
                Demand(
                    kind.name,
                    work.backlog.get(kind.name, 0) + back[kind.name],
                    tuple(_routes(kind, deadline, work.expected)),
                    kind.share,
                    max(0, work.begun.get(kind.name, 0) - back[kind.name]),
                )
                for kind in work.types
            ),
            windows={each.name: windows_of(each, work.windows.get(each.name, fresh), added) for each in limited},
            shut={name: why for name, window in work.windows.items() if (why := shut_by(window))},
            busy=busy,
            deadline=deadline,
            turnaround=ticks(turnaround_seconds),
            apart=ticks(horizon.apart_seconds),
            gone=ticks(horizon.gone_seconds),
        )

    @property
    def events(self) -> int:
        """The waiting events of all types."""
        return sum(demand.events for demand in self.demands)


def _usual(kind: EventType) -> Expected:
    return Expected(kind.processing_seconds, kind.processing_seconds)


def _routes(kind: EventType, deadline: int, expected: Mapping[Pair, Expected]) -> Iterator[Route]:
    for end in kind.endpoints:
        call = expected.get((kind.name, end.name)) or _usual(kind)
        takes, names = duration(call.seconds), tuple(each.name for each in all_limited([end]))
        yield Route(names, takes, deadline - max(takes, ticks(call.needed_seconds)))


def _busy(work: Workload) -> Iterator[Busy]:
    """Yield the busy lanes. A call ends when half of them do; an overdue one when nearly all do, or times out."""
    ends = {(kind.name, end.name): (kind, end) for kind in work.types for end in kind.endpoints}
    for call in work.underway:
        if there := ends.get(pair := (call.type, call.endpoint)):
            kind, end = there
            usual = work.expected.get(pair) or _usual(kind)
            moments = usual.seconds, usual.needed_seconds, end.timeout_seconds
            left = next((at - call.age_seconds for at in moments if at >= call.age_seconds), 0.0)
            is_suspect = call.endpoint in work.windows and work.windows[call.endpoint].suspect
            yield Busy(call.type, duration(left), not is_suspect)


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
