"""The input of a plan, in seconds, and what its simulations start from, in ticks: demands, windows, busy lanes.

Ticks are whole microseconds. Their sums are exact, so simultaneous events compare as equal.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from rlm.core.call import Expected, Pair, expected_of
from rlm.core.endpoint import ENDLESS_SECONDS, EventType, Limited, WindowState, all_limited, shut_by

#: Ticks in a second.
SECOND: Final = 1_000_000
#: An answer is not overdue before it is so late, seconds: many lanes settle at once.
LATE_SECONDS: Final = 0.1
#: Later than any moment that matters.
NEVER: Final = 1 << 62


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


class SimulatedWindow(msgspec.Struct):
    """The slots of a rule: pairs of a moment and how many can be taken from then on, in ascending order.

    One that is taken comes back a `period` later. An endpoint has a slot only if all its rules and those of its budget
    have one.
    """

    period: int
    slots: deque[tuple[int, int]]

    @property
    def opens(self) -> int:
        """When the next slot can be taken."""
        return self.slots[0][0]

    def copy(self) -> SimulatedWindow:
        """Return a copy that can be used up without changing this one."""
        return SimulatedWindow(self.period, self.slots.copy())

    def most_within(self, span: int) -> int:
        """Return the most slots that can be taken within `span` ticks."""
        return sum(number for _, number in self.slots) * (1 + span // self.period)

    def free_at(self, at: int) -> int:
        """Return the slots that can be taken at `at`, when it is open; `at` must not decrease between calls."""
        slots = self.slots
        while len(slots) > 1 and slots[1][0] <= at:
            _, free = slots.popleft()
            slots[0] = slots[0][0], slots[0][1] + free
        return slots[0][1]

    def take(self, at: int, number: int, grain: int = 1) -> None:
        """Take so many of the free slots. Those that come back within a `grain` of ticks form one group."""
        slots, back = self.slots, at + self.period
        opened, free = slots.popleft()
        if slots and back - slots[-1][0] < grain:
            last, before = slots[-1]
            slots[-1] = last + (back - last) * number // (before + number), before + number
        else:
            slots.append((back, number))
        if free > number:
            slots.appendleft((opened, free - number))


class Route(msgspec.Struct, frozen=True):
    """An endpoint for a type's events: a call's time, and its latest beginning.

    `windows` are the names of the endpoint and of its budget, if it has one.
    """

    windows: tuple[str, ...]
    takes: int
    latest: int


class Demand(msgspec.Struct):
    """A type's events that wait, and their routes, the primary's first. A simulation begins the calls of a copy.

    `share` is the part of all calls begun that the type should get, `begun` how many it had. `answered` is when the
    last of those under way or begun is answered in time, 0 if none is; `late` ones under way are not.
    """

    name: str
    waiting: int
    routes: tuple[Route, ...]
    share: float
    begun: int
    answered: int
    late: int

    @property
    def left(self) -> int:
        """The events that are not answered."""
        return self.waiting + self.late


class Situation(msgspec.Struct, frozen=True):
    """Everything that a simulation starts from, except the number of lanes, in ticks from the moment planned for.

    Demands are in descending priority; `windows` are those of the rules of endpoints and budgets by name, `shut` says
    why some rest. A lane needs a `turnaround` between two calls. In a run under way lanes may be `busy` until then. The
    other fields are those of `Horizon`.
    """

    demands: tuple[Demand, ...]
    windows: Mapping[str, list[SimulatedWindow]]
    shut: Mapping[str, str]
    busy: tuple[int, ...]
    deadline: int
    target: int
    turnaround: int
    apart: int
    gone: int

    @classmethod
    def of(cls, work: Workload, horizon: Horizon, turnaround_seconds: float = 0.0) -> Situation:
        """Return the situation of a workload. Calls under way to a suspect endpoint are not expected to succeed."""
        deadline, added, fresh = ticks(horizon.deadline_seconds), ticks(horizon.guard_seconds), WindowState()
        moments, demands, ends = _moments(work), [], list[tuple[str, int, bool]]()
        for call in work.underway:
            if there := moments.get((call.type, call.endpoint)):
                left = next((at - call.age_seconds for at in there if at + LATE_SECONDS >= call.age_seconds), 0.0)
                ends.append((call.type, duration(left), work.windows.get(call.endpoint, fresh).suspect))
        for kind in work.types:
            answers = [at for name, at, is_suspect in ends if name == kind.name and not is_suspect]
            routes = []
            for end in kind.endpoints:
                seconds, needed_seconds, _ = moments[kind.name, end.name]
                takes, names = duration(seconds), tuple(each.name for each in all_limited([end]))
                routes.append(Route(names, takes, deadline - max(takes, ticks(needed_seconds))))
            demands.append(
                Demand(
                    name=kind.name,
                    waiting=work.backlog.get(kind.name, 0) + sum(end[0] == kind.name and end[2] for end in ends),
                    routes=tuple(routes),
                    share=kind.share,
                    begun=work.begun.get(kind.name, 0),
                    answered=max((at for at in answers if at <= deadline), default=0),
                    late=sum(at > deadline for at in answers),
                )
            )
        limited = all_limited(end for kind in work.types for end in kind.endpoints)
        return cls(
            demands=tuple(demands),
            windows={each.name: _windows_of(each, work.windows.get(each.name, fresh), added) for each in limited},
            shut={name: why for name, window in work.windows.items() if (why := shut_by(window))},
            busy=tuple(at for _, at, _ in ends),
            deadline=deadline,
            target=ticks(horizon.target_seconds),
            turnaround=ticks(turnaround_seconds),
            apart=ticks(horizon.apart_seconds),
            gone=ticks(horizon.gone_seconds),
        )

    @property
    def events(self) -> int:
        """The waiting events of all types."""
        return sum(demand.waiting for demand in self.demands)


def ticks(seconds: float) -> int:
    """Return `seconds` in ticks."""
    return round(seconds * SECOND)


def duration(seconds: float) -> int:
    """Return a duration in ticks, at least one so that every step advances time."""
    return max(1, ticks(seconds))


def _moments(work: Workload) -> dict[Pair, tuple[float, float, float]]:
    """Return when a call ends after its begin: when half of them do, when nearly all do, and when it times out.

    One under way that is overdue ends at the next of these. Where most of those under way take twice as long as nearly
    all should, calls are expected to go on timing out.
    """
    moments, ages = {}, defaultdict[Pair, list[float]](list)
    for kind in work.types:
        for end in kind.endpoints:
            each = expected_of(kind, end.name, work.expected)
            moments[kind.name, end.name] = each.seconds, each.needed_seconds, end.timeout_seconds
    for call in work.underway:
        ages[call.type, call.endpoint].append(call.age_seconds)
    for pair, (_, needed_seconds, timeout_seconds) in [(pair, moments[pair]) for pair in ages if pair in moments]:
        if 2 * sum(age > 2 * needed_seconds for age in ages[pair]) > len(ages[pair]):
            moments[pair] = timeout_seconds, timeout_seconds, timeout_seconds
    return moments


def _windows_of(limited: Limited, window: WindowState, added: int) -> list[SimulatedWindow]:
    """Return the windows of its rules at the start. Slots come back a period and `added` ticks after a call.

    A suspect window never opens, nor does one with an endless pause.
    """
    is_endless = window.suspect or window.rest_seconds > ENDLESS_SECONDS
    rest, windows = NEVER if is_endless else ticks(window.rest_seconds), []
    for rule in limited.limit.rules:
        period = duration(rule.seconds) + added
        taken = sorted(back for age in window.ages if (back := period - ticks(age)) > 0)[-rule.amount :]
        slots = deque([(rest, rule.amount - len(taken))] if len(taken) < rule.amount else [])
        slots.extend((max(rest, back), 1) for back in taken)
        windows.append(SimulatedWindow(period, slots))
    return windows
