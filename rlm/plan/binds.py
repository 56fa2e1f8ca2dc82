"""What keeps a plan from ending sooner or leaving less over, found by comparing it with more lanes or endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rlm.core.text import counted
from rlm.core.window import Circuit
from rlm.plan.limits_bind import LimitsBind, MoreEndpoints, ShutWindow, clock, first_of, left_over
from rlm.plan.simulate import Course, simulate
from rlm.plan.situation import MANY_ENDPOINTS, Capacity, Demand, Horizon, Situation
from rlm.plan.window import NEVER, SECOND, SimulatedWindow, ticks
from rlm.plan.workers import Choice

#: Something binds if more of it would shorten the time by a tenth or more.
WORTH_IT: Final = 0.9
#: How many additional overflow endpoints per type are tried.
MOST_ADDED: Final = 3

_LAST_CALLS: Final = "nothing binds: the last calls are under way"


def what_binds(situation: Situation, choice: Choice, capacity: Capacity, horizon: Horizon) -> str | LimitsBind:
    """Return the constraint that binds; its `str` is a sentence without a full stop.

    If limits bind and there is time to compute it, the result includes what more overflow endpoints would change.
    """
    if not situation.events and not choice.course.leftover:
        return _LAST_CALLS if situation.busy else "nothing binds: there is nothing to do"
    compared = _Comparison(situation, choice, capacity)
    return compared.leftover() if choice.course.leftover else compared.end(ticks(horizon.target_seconds))


class _Comparison:
    """Compares a plan's course with those with a lane for every event, without budgets, and with more endpoints."""

    def __init__(self, situation: Situation, choice: Choice, capacity: Capacity) -> None:
        self._situation, self._choice, self._course = situation, choice, choice.course
        self._capacity = capacity
        if situation.must_be_quick and situation.separable:
            self._plenty = choice.alone
        else:
            self._plenty = simulate(situation, max(capacity.lanes, situation.events + len(situation.busy)))
        # A run under way is compared without budgets too, because that takes only one simulation.
        has_budget = any(route.budget for demand in situation.demands if demand.events for route in demand.routes)
        self._free: Course | None = None
        if has_budget and len(situation.windows) <= MANY_ENDPOINTS:
            self._free = simulate(situation.without_budgets(), capacity.lanes)

    def leftover(self) -> str | LimitsBind:
        """Return why events are left over."""
        situation, course, plenty = self._situation, self._course, self._plenty
        failed = sum(course.failed.values())
        left = {name: number - course.failed.get(name, 0) for name, number in course.left.items()}
        late = [demand for demand in situation.demands if demand.events and left[demand.name]]
        limited = [demand for demand in late if any(route.latest >= 0 for route in demand.routes)]
        shut = [demand for demand in limited if self._is_unreachable(demand)]
        of_limits = self._left_by_limits({one.name: left[one.name] for one in limited if one not in shut})
        open_ = [demand for demand in limited if of_limits.get(demand.name)]
        more = self._fewer_left(open_ or shut)
        # Without a comparison with more endpoints, more workers must answer most of the events.
        if plenty.leftover < (more.leave if more else course.leftover / 2):
            return self._workers_bind(left_over(course.leftover), f"{plenty.leftover:,}")
        attempts = f"{situation.max_attempts} attempts" if situation.max_attempts > 1 else "the only attempt"
        failing = f"failing calls bind: {_events_are(failed)} expected to fail in {attempts}" if failed else ""
        if failed == course.leftover:
            return failing
        if not late:
            told = f"{_events_are(course.leftover)} not expected to be answered before the deadline"
            return f"calls under way bind: {told}"
        if not limited:
            types = first_of(one.name for one in late)
            return f"the deadline binds: in {_seconds(situation.deadline)} there is no time for a call of {types}"
        budgeted = [one for one in open_ if self._is_held_by_budget(one)]
        hampered = [one for one in open_ if any(window.rest == NEVER for window in self._shut_windows([one]))]
        is_most = 2 * sum(of_limits[one.name] for one in hampered) > course.leftover
        endless = [one for one in self._shut_windows(hampered if is_most else ()) if one.rest == NEVER]
        return LimitsBind(
            by_limit={one.name: of_limits[one.name] for one in open_ if one not in budgeted},
            by_budget={one.name: of_limits[one.name] for one in budgeted},
            by_shut={one.name: left[one.name] for one in shut},
            by_lanes={name: left[name] - number for name, number in of_limits.items() if number < left[name]},
            budgets=_budgets(budgeted),
            until=self._at(situation.deadline),
            failing={failing: failed} if failed else {},
            untold=course.leftover - failed - sum(left[one.name] for one in limited),
            least=plenty.leftover if plenty.leftover < course.leftover else None,
            more_endpoints=more,
            unreachable=self._shut(shut),
            shut=self._shut(open_),
            blamed=tuple(dict.fromkeys(one.name for one in (*self._shut_windows(shut), *endless))),
            by_hand=self._by_hand([one for one in open_ if one not in budgeted], budgeted),
        )

    def end(self, target: int) -> str | LimitsBind:
        """Return what determines the end."""
        course, plenty, best = self._course, self._plenty, self._choice.best
        soonest = self._at(plenty.forecast)
        if course.forecast <= target and plenty.forecast < WORTH_IT * course.forecast:
            done = f"with {counted(self._choice.workers, 'worker')} all is done at {clock(self._at(course.forecast))}"
            early = f"before the target of {clock(self._at(target))}; with more it could be {clock(soonest)}"
            return f"nothing binds: {done}, {early}"
        if plenty.forecast < WORTH_IT * best.forecast:
            return self._workers_bind(f"all is done at {clock(self._at(best.forecast))}", clock(soonest))
        last = max(plenty.starts, key=lambda start: start.at + start.takes)
        if last.at + last.takes < plenty.forecast:
            return _LAST_CALLS
        if last.at < last.takes:
            begun = f"begins at {clock(self._at(last.at))} and takes {_seconds(last.takes)}"
            return f"nothing binds: the last call, of {last.type}, {begun}"
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
            by_hand=self._by_hand([] if by_budget else limited, limited if by_budget else []),
        )

    def _workers_bind(self, now: str, better: str) -> str:
        capacity = self._capacity
        most = counted(capacity.max_workers, "worker")
        maximum = " (the maximum)" if capacity.min_workers < capacity.max_workers else ""
        maximum = " (no host takes more)" if capacity.of_hosts else maximum
        return f"workers bind: with {most}{maximum} {now}; with more it could be {better}"

    def _sooner(self, limited: Sequence[Demand]) -> MoreEndpoints | None:
        """Return the smallest number of additional overflow endpoints that makes the end notably sooner."""
        for number, other in self._with_more(limited):
            if other.forecast < WORTH_IT * self._course.forecast:
                return _more_endpoints(number, limited, end=self._at(other.forecast))
        return None

    def _fewer_left(self, limited: Sequence[Demand]) -> MoreEndpoints | None:
        """Return the smallest number of additional overflow endpoints that leaves none over, else the effect of one."""
        of_one = self._course.leftover
        for number, other in self._with_more(limited):
            if not other.leftover:
                return _more_endpoints(number, limited)
            of_one = other.leftover if number == 1 else of_one
        return _more_endpoints(1, limited, leave=of_one) if of_one < self._course.leftover else None

    def _with_more(self, limited: Sequence[Demand]) -> Iterator[tuple[int, Course]]:
        """Yield number and course for each number of additional overflow endpoints, if there is time to compute it.

        While an endpoint is paused by an operator, nothing is tried, because ending the pause comes first.
        """
        paused = any(window.shut is Circuit.PAUSED for window in self._shut_windows(limited))
        if limited and self._capacity.lanes and not paused and not self._situation.must_be_quick:
            names = [one.name for one in limited]
            for number in range(1, MOST_ADDED + 1):
                wider = self._situation.with_more(names, number)
                yield number, simulate(wider, self._capacity.lanes, self._course.kept)

    def _left_by_limits(self, left: Mapping[str, int]) -> dict[str, int]:
        """Return by type how many of the events `left` would also be left over with a lane for every event.

        Where lanes would only shift slots between types, limits bind: lanes answer no more than they gain in all.
        """
        plenty, of_limits = self._plenty, dict(left)
        gain = self._course.leftover - plenty.leftover
        for name, number in left.items():
            by_lanes = max(0, min(gain, number - plenty.left[name] + plenty.failed.get(name, 0)))
            of_limits[name] -= by_lanes
            gain -= by_lanes
        return of_limits

    def _is_held_by_budget(self, demand: Demand) -> bool:
        free = self._free
        return free is not None and bool(_budgets([demand])) and free.left[demand.name] < self._course.left[demand.name]

    def _is_unreachable(self, demand: Demand) -> bool:
        late = {window.name for window in self._shut_windows([demand]) if window.rest >= self._situation.deadline}
        return all(late.intersection(route.windows) for route in demand.routes)

    def _shut(self, demands: Sequence[Demand]) -> tuple[ShutWindow, ...]:
        return tuple(
            ShutWindow(window.name, window.shut, None if window.rest == NEVER else self._at(window.rest))
            for window in self._shut_windows(demands)
        )

    def _shut_windows(self, demands: Sequence[Demand]) -> list[SimulatedWindow]:
        """Return the shut windows of these types' endpoints and budgets in the order of use, each once."""
        names = dict.fromkeys(name for one in demands for route in one.routes for name in route.windows)
        return [window for window in (self._situation.windows[name] for name in names) if window.rest > 0]

    def _by_hand(self, limited: Sequence[Demand], budgeted: Sequence[Demand]) -> tuple[str, ...]:
        """Return how the limits that bind were set by hand."""
        names = [route.endpoint for one in limited for route in one.routes]
        told = self._situation.by_hand
        return tuple(f"{name} {told[name]}" for name in dict.fromkeys([*names, *_budgets(budgeted)]) if name in told)

    def _at(self, moment: int) -> int:
        return self._situation.gone + moment


def _budgets(demands: Sequence[Demand]) -> tuple[str, ...]:
    return tuple(sorted({route.budget for demand in demands for route in demand.routes if route.budget is not None}))


def _more_endpoints(number: int, demands: Sequence[Demand], *, end: int = 0, leave: int = 0) -> MoreEndpoints:
    next_one = {len(demand.routes) for demand in demands}
    return MoreEndpoints(number, next_one.pop() if len(next_one) == 1 else None, len(demands) > 1, end, leave)


def _events_are(number: int) -> str:
    return f"{counted(number, 'event')} {'is' if number == 1 else 'are'}"


def _seconds(time: int) -> str:
    """Return a duration with the precision of a forecast: tenths of a second, or two digits below one second."""
    seconds = time / SECOND
    return f"{round(seconds, 1):g} s" if seconds >= 1 else f"{seconds:.2g} s"
