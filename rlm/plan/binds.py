"""What keeps a plan from ending sooner or leaving less over, found by comparing it with more lanes or endpoints.

The answer is a value; `rlm.plan.wording` makes its sentence. Moments are in ticks since the run's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from rlm.core.window import Circuit
from rlm.plan.simulate import simulate
from rlm.plan.situation import MANY_ENDPOINTS
from rlm.plan.window import NEVER, ticks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.plan.situation import Course, Demand, Situation
    from rlm.plan.values import Capacity, Horizon
    from rlm.plan.window import SimulatedWindow
    from rlm.plan.workers import Choice

#: Something binds if more of it would take a tenth or more off the time.
WORTH_IT: Final = 0.9
#: At most so many more overflow endpoints for each type are tried.
MOST_ADDED: Final = 3


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """Nothing waits; calls may be `under_way`."""

    under_way: bool


@dataclass(frozen=True, slots=True)
class DoneEarly:
    """Nothing binds: these workers are done by the target; with more the end could be `soonest`."""

    workers: int
    end: int
    target: int
    soonest: int


@dataclass(frozen=True, slots=True)
class LastCallDecides:
    """Nothing binds: the end is that of one call, which begins early."""

    type: str
    begins: int
    takes: int


@dataclass(frozen=True, slots=True)
class WorkersBind:
    """With the most workers the end is `end`, or `leftover` are left over; with more `soonest`, or the `least`."""

    most: int
    are_maximum: bool
    end: int = 0
    soonest: int = 0
    leftover: int = 0
    least: int = 0


@dataclass(frozen=True, slots=True)
class FailingCallsBind:
    """All `events` left over are expected to fail in each of the attempts."""

    events: int
    attempts: int


@dataclass(frozen=True, slots=True)
class CallsUnderWayBind:
    """All `events` left over are under way, and expected to be answered too late."""

    events: int


@dataclass(frozen=True, slots=True)
class DeadlineBinds:
    """In the `time` until the deadline there is none for a call of these types."""

    time: int
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MoreEndpoints:
    """What `number` more overflow endpoints, for each type if `each`, would change: the `end`, or how many they leave.

    `ordinal` is the place of the next one among a type's endpoints, None if the types differ.
    """

    number: int
    ordinal: int | None
    each: bool
    end: int = 0
    leave: int = 0


@dataclass(frozen=True, slots=True)
class ShutWindow:
    """An endpoint or a budget that admits no call `until` then; None for one without an end."""

    name: str
    reason: Circuit
    until: int | None


@dataclass(frozen=True, slots=True)
class LimitsBind:
    """Limits or `budgets` admit no more `until` then: `leftover` events are left over, or else the end is `end`.

    `by_limit` and `by_budget` have the types they bind, each with the events left over. `unreachable`: no endpoint of
    these types can be called before the deadline. With more workers `least` are left over, or the end is `soonest`.
    """

    by_limit: Mapping[str, int]
    by_budget: Mapping[str, int]
    budgets: tuple[str, ...]
    until: int
    unreachable: bool = False
    leftover: int = 0
    least: int | None = None
    end: int = 0
    soonest: int = 0
    more_endpoints: MoreEndpoints | None = None
    shut: tuple[ShutWindow, ...] = field(default=())


Binding: TypeAlias = (
    NothingToDo
    | DoneEarly
    | LastCallDecides
    | WorkersBind
    | FailingCallsBind
    | CallsUnderWayBind
    | DeadlineBinds
    | LimitsBind
)


def what_binds(situation: Situation, choice: Choice, capacity: Capacity, horizon: Horizon) -> Binding:
    """Return the constraint that binds, and, if there is time for it, what more overflow endpoints would change."""
    if not situation.events and not choice.course.leftover:
        return NothingToDo(bool(situation.busy))
    compared = _Comparison(situation, choice, capacity)
    return compared.leftover() if choice.course.leftover else compared.end(ticks(horizon.target_seconds))


class _Comparison:
    """The course of a plan beside those with a lane for every event, without budgets, with more endpoints."""

    def __init__(self, situation: Situation, choice: Choice, capacity: Capacity) -> None:
        self._situation, self._choice, self._course = situation, choice, choice.course
        self._capacity = capacity
        if situation.must_be_quick and situation.separable:
            self._plenty = choice.alone
        else:
            self._plenty = simulate(situation, max(capacity.lanes, situation.events + len(situation.busy)))
        # Without budgets it is one simulation, so that is tried for a run under way too.
        has_budget = any(route.budget for demand in situation.demands if demand.events for route in demand.routes)
        self._free: Course | None = None
        if has_budget and len(situation.windows) <= MANY_ENDPOINTS:
            self._free = simulate(situation.without_budgets(), capacity.lanes)

    def leftover(self) -> Binding:
        """Return why events are left over."""
        situation, course, plenty = self._situation, self._course, self._plenty
        late = [demand for demand in situation.demands if demand.events and course.left[demand.name]]
        limited = [demand for demand in late if any(route.latest >= 0 for route in demand.routes)]
        more = self._fewer_left(limited)
        if plenty.leftover < min(course.leftover, more.leave if more else course.leftover):
            return WorkersBind(*self._most, leftover=course.leftover, least=plenty.leftover)
        if course.failed == course.leftover:
            return FailingCallsBind(course.failed, situation.max_attempts)
        if not late:
            return CallsUnderWayBind(course.leftover)
        if not limited:
            return DeadlineBinds(situation.deadline, tuple(one.name for one in late))
        unreachable = self._is_unreachable(limited)
        budgeted = [] if unreachable else [one for one in limited if self._is_held_by_budget(one)]
        return LimitsBind(
            by_limit={one.name: course.left[one.name] for one in limited if one not in budgeted},
            by_budget={one.name: course.left[one.name] for one in budgeted},
            budgets=_budgets(budgeted),
            until=self._at(situation.deadline),
            unreachable=unreachable,
            leftover=sum(course.left[one.name] for one in limited),
            least=plenty.leftover if plenty.leftover < course.leftover else None,
            more_endpoints=more,
            shut=self._shut(limited),
        )

    def end(self, target: int) -> Binding:
        """Return what the end waits for."""
        course, plenty, best = self._course, self._plenty, self._choice.best
        soonest = self._at(plenty.forecast)
        if course.forecast <= target and plenty.forecast < WORTH_IT * course.forecast:
            return DoneEarly(self._choice.workers, self._at(course.forecast), self._at(target), soonest)
        if plenty.forecast < WORTH_IT * best.forecast:
            return WorkersBind(*self._most, end=self._at(best.forecast), soonest=soonest)
        last = max(plenty.starts, key=lambda start: start.at + start.takes)
        if last.at + last.takes < plenty.forecast:
            return NothingToDo(under_way=True)
        if last.at < last.takes:
            return LastCallDecides(last.type, self._at(last.at), last.takes)
        begins = {start.type: start.at for start in plenty.starts}
        limited = [one for one in self._situation.demands if begins.get(one.name, 0) >= WORTH_IT * last.at]
        types = dict.fromkeys((one.name for one in limited), 0)
        by_budget = bool(self._free and _budgets(limited) and self._free.forecast < WORTH_IT * course.forecast)
        return LimitsBind(
            by_limit={} if by_budget else types,
            by_budget=types if by_budget else {},
            budgets=_budgets(limited),
            until=self._at(last.at),
            end=self._at(course.forecast),
            soonest=soonest,
            more_endpoints=self._sooner(limited),
            shut=self._shut(limited),
        )

    @property
    def _most(self) -> tuple[int, bool]:
        capacity = self._capacity
        return capacity.max_workers, capacity.min_workers < capacity.max_workers

    def _sooner(self, limited: Sequence[Demand]) -> MoreEndpoints | None:
        """Return the fewest more overflow endpoints that make a difference to the end."""
        for number, other in self._with_more(limited):
            if other.forecast < WORTH_IT * self._course.forecast:
                return _more_endpoints(number, limited, end=self._at(other.forecast))
        return None

    def _fewer_left(self, limited: Sequence[Demand]) -> MoreEndpoints | None:
        """Return the fewest more overflow endpoints that leave none over, or else what a single one would leave."""
        of_one = self._course.leftover
        for number, other in self._with_more(limited):
            if not other.leftover:
                return _more_endpoints(number, limited)
            of_one = other.leftover if number == 1 else of_one
        return _more_endpoints(1, limited, leave=of_one) if of_one < self._course.leftover else None

    def _with_more(self, limited: Sequence[Demand]) -> Iterator[tuple[int, Course]]:
        """Yield number and course for each number of more overflow endpoints, while there is time for it.

        An operator's pause is to be ended before any other endpoint is added.
        """
        paused = any(window.shut is Circuit.PAUSED for window in self._shut_windows(limited))
        if limited and self._capacity.lanes and not paused and not self._situation.must_be_quick:
            names = [one.name for one in limited]
            for number in range(1, MOST_ADDED + 1):
                yield number, simulate(self._situation.with_more(names, number), self._capacity.lanes)

    def _is_held_by_budget(self, demand: Demand) -> bool:
        free = self._free
        return free is not None and bool(_budgets([demand])) and free.left[demand.name] < self._course.left[demand.name]

    def _is_unreachable(self, demands: Sequence[Demand]) -> bool:
        late = {window.name for window in self._shut_windows(demands) if window.rest >= self._situation.deadline}
        return all({route.endpoint, route.budget} & late for one in demands for route in one.routes)

    def _shut(self, demands: Sequence[Demand]) -> tuple[ShutWindow, ...]:
        return tuple(
            ShutWindow(window.name, window.shut, None if window.rest == NEVER else self._at(window.rest))
            for window in self._shut_windows(demands)
        )

    def _shut_windows(self, demands: Sequence[Demand]) -> list[SimulatedWindow]:
        """Return the windows of endpoints and budgets of these types that are shut, in the order of use, each once."""
        names = {
            name: None for one in demands for route in one.routes for name in (route.endpoint, route.budget) if name
        }
        return [window for window in (self._situation.windows[name] for name in names) if window.rest > 0]

    def _at(self, moment: int) -> int:
        return self._situation.gone + moment


def _budgets(demands: Sequence[Demand]) -> tuple[str, ...]:
    return tuple(sorted({route.budget for demand in demands for route in demand.routes if route.budget is not None}))


def _more_endpoints(number: int, demands: Sequence[Demand], *, end: int = 0, leave: int = 0) -> MoreEndpoints:
    next_one = {len(demand.routes) for demand in demands}
    return MoreEndpoints(number, next_one.pop() if len(next_one) == 1 else None, len(demands) > 1, end, leave)
