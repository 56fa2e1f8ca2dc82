"""What keeps a plan from ending sooner or leaving less over, found by comparing it with more lanes and endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rlm.core.text import counted, named
from rlm.plan.simulate import simulate
from rlm.plan.situation import Capacity, Demand, Horizon, Situation
from rlm.plan.window import SECOND, SimulatedWindow, ticks
from rlm.plan.workers import Choice

#: Something binds if more of it would shorten the time by a tenth or more.
WORTH_IT: Final = 0.9
#: The most types, endpoints or budgets that a sentence names.
MOST_NAMED: Final = 3


class Binding(NamedTuple):
    """What binds, as a sentence without a full stop; `blamed` are the endpoints and budgets that leave events over."""

    words: str
    blamed: tuple[str, ...] = ()


def what_binds(situation: Situation, choice: Choice, capacity: Capacity, horizon: Horizon) -> Binding:
    """Return what binds a plan. If limits do and there is time to compute it, that is compared with more endpoints."""
    if not situation.events and not choice.course.leftover:
        last_calls = "the last calls are under way" if situation.busy else "there is nothing to do"
        return Binding(f"nothing binds: {last_calls}")
    compared = _Comparison(situation, choice, capacity)
    return compared.leftover() if choice.course.leftover else compared.end(ticks(horizon.target_seconds))


class _Comparison:
    """Compares a plan's course with that with a lane for every event, and with more endpoints."""

    def __init__(self, situation: Situation, choice: Choice, capacity: Capacity) -> None:
        self._situation, self._choice, self._course = situation, choice, choice.course
        self._capacity = capacity
        self._plenty = simulate(situation, max(capacity.lanes, situation.events + len(situation.busy)))

    def leftover(self) -> Binding:
        """Return why events are left over."""
        situation, course, plenty = self._situation, self._course, self._plenty
        failed = sum(course.failed.values())
        left = {name: number - course.failed.get(name, 0) for name, number in course.left.items()}
        late = [demand for demand in situation.demands if demand.events and left[demand.name]]
        limited = [demand for demand in late if any(route.latest >= 0 for route in demand.routes)]
        if 2 * plenty.leftover < course.leftover:
            return Binding(self._workers_bind(f"{_events_are(course.leftover)} left over", f"{plenty.leftover:,}"))
        if failed == course.leftover:
            return Binding(f"failing calls bind: {_events_are(failed)} expected to fail as often as they are tried")
        if not late:
            return Binding(f"calls under way bind: {_events_are(course.leftover)} not expected to be answered in time")
        if not limited:
            types = named([demand.name for demand in late], MOST_NAMED)
            return Binding(
                f"the deadline at {self._clock(situation.deadline)} binds: no call of {types} fits before it"
            )
        shut = [demand for demand in limited if self._is_unreachable(demand)]
        blamed = tuple(dict.fromkeys(window.name for window in self._shut_windows(shut)))
        if shut and 2 * sum(left[demand.name] for demand in shut) > course.leftover:
            types = named([demand.name for demand in shut], MOST_NAMED)
            words = (
                f"no endpoint of {types} can be called before the deadline: {_events_are(course.leftover)} left over"
            )
            return Binding(f"{words}{self._besides(shut)}", blamed)
        words = f"{_limits_of(limited)} until the deadline at {self._clock(situation.deadline)}"
        return Binding(f"{words}: {_events_are(course.leftover)} left over{self._besides(limited)}", blamed)

    def end(self, target: int) -> Binding:
        """Return what determines the end."""
        course, plenty, best = self._course, self._plenty, self._choice.best
        soonest = self._clock(plenty.forecast)
        if course.forecast <= target and plenty.forecast < WORTH_IT * course.forecast:
            done = f"with {counted(self._choice.workers, 'worker')} all is done at {self._clock(course.forecast)}"
            early = f"before the target of {self._clock(target)}; with more it could be {soonest}"
            return Binding(f"nothing binds: {done}, {early}")
        if plenty.forecast < WORTH_IT * best.forecast:
            return Binding(self._workers_bind(f"all is done at {self._clock(best.forecast)}", soonest))
        last = max(plenty.starts, key=lambda start: start.at + start.takes)
        if last.at + last.takes < plenty.forecast:
            return Binding("nothing binds: the last calls are under way")
        if last.at < last.takes:
            return Binding(f"nothing binds: the last call, of {last.type}, begins at {self._clock(last.at)}")
        begins = {start.type: start.at for start in plenty.starts}
        limited = [demand for demand in self._situation.demands if begins.get(demand.name, 0) >= WORTH_IT * last.at]
        words = f"{_limits_of(limited)} until {self._clock(last.at)}; more workers change nothing"
        return Binding(f"{words}{self._besides(limited)}")

    def _workers_bind(self, now: str, better: str) -> str:
        capacity = self._capacity
        maximum = " (the maximum)" if capacity.min_workers < capacity.max_workers else ""
        maximum = " (no host takes more)" if capacity.of_hosts else maximum
        most = counted(capacity.max_workers, "worker")
        return f"workers bind: with {most}{maximum} {now}; with more it could be {better}"

    def _besides(self, demands: Sequence[Demand]) -> str:
        """Return what another overflow endpoint would change, which windows are shut, and which limits are by hand."""
        names = dict.fromkeys(name for demand in demands for route in demand.routes for name in route.windows)
        by_hand = self._situation.by_hand
        facts = [f"{window.name} is {window.shut}" for window in self._shut_windows(demands)]
        facts += [f"{name} {by_hand[name]}" for name in names if name in by_hand]
        return f"{self._with_another(demands)}{f' ({named(facts, MOST_NAMED)})' if facts else ''}"

    def _with_another(self, demands: Sequence[Demand]) -> str:
        if not self._capacity.lanes or self._situation.must_be_quick or self._shut_windows(demands):
            return ""
        wider = self._situation.with_one_more([demand.name for demand in demands])
        other, course = simulate(wider, self._capacity.lanes, most=self._course.most), self._course
        another = f"; one more overflow endpoint{' for each' if len(demands) > 1 else ''} would"
        if other.leftover < course.leftover:
            return f"{another} leave {f'{other.leftover:,}' if other.leftover else 'none over'}"
        if not course.leftover and other.forecast < WORTH_IT * course.forecast:
            return f"{another} finish at {self._clock(other.forecast)}"
        return ""

    def _is_unreachable(self, demand: Demand) -> bool:
        late = {window.name for window in self._shut_windows([demand]) if window.rest >= self._situation.deadline}
        return all(late.intersection(route.windows) for route in demand.routes)

    def _shut_windows(self, demands: Iterable[Demand]) -> list[SimulatedWindow]:
        """Return the shut windows of these types' endpoints and budgets in the order of use, each once."""
        names = dict.fromkeys(name for demand in demands for route in demand.routes for name in route.windows)
        return [window for window in (self._situation.windows[name] for name in names) if window.rest > 0]

    def _clock(self, moment: int) -> str:
        """Return a moment in minutes and seconds since the run's start: `1:40`."""
        minutes, seconds = divmod(round((self._situation.gone + moment) / SECOND), 60)
        return f"{minutes}:{seconds:02}"


def _limits_of(demands: Sequence[Demand]) -> str:
    budgets = sorted({route.budget for demand in demands for route in demand.routes if route.budget is not None})
    types = named([demand.name for demand in demands], MOST_NAMED)
    besides = f" and the budget {named(budgets, MOST_NAMED)}" if budgets else ""
    return f"the limits of {types}{besides} bind"


def _events_are(number: int) -> str:
    return f"{counted(number, 'event')} {'is' if number == 1 else 'are'}"
