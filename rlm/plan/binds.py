"""What keeps a plan from ending sooner or leaving less over, in words: it is compared with more lanes or endpoints.

That limits bind is told with until when, for how many events, and what more endpoints would change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rlm.core.text import counted, listed, named
from rlm.core.window import Circuit
from rlm.plan.simulate import Course, simulate
from rlm.plan.situation import MANY_ENDPOINTS, Capacity, Demand, Horizon, Situation
from rlm.plan.window import NEVER, SECOND, SimulatedWindow, ticks
from rlm.plan.workers import Choice

#: Something binds if more of it would take a tenth or more off the time.
WORTH_IT: Final = 0.9
#: At most so many more overflow endpoints for each type are tried.
MOST_ADDED: Final = 3
#: At most so many shut endpoints and budgets of a kind are named.
MOST_NAMED: Final = 3

_LAST_CALLS: Final = "nothing binds: the last calls are under way"
_SHUT: Final[Mapping[str, tuple[str, str]]] = {
    Circuit.PROBING: ("is not counted on until it answers well", "are not counted on until they answer well"),
    "endless": ("is paused until resumed", "are paused until resumed"),
    Circuit.PAUSED: ("is paused until {}", "are paused until {} at the latest"),
    Circuit.HELD: ("is held until {}", "are held until {} at the latest"),
    Circuit.RESTING: ("rests until {}", "rest until {} at the latest"),
}
_ORDINALS: Final = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def what_binds(situation: Situation, choice: Choice, capacity: Capacity, horizon: Horizon) -> str:
    """Return the constraint that binds as a sentence without its full stop, its times counted from the run's start.

    If limits bind, and if there is time for it, it says what more overflow endpoints would change.
    """
    if not situation.events and not choice.course.leftover:
        return _LAST_CALLS if situation.busy else "nothing binds: there is nothing to do"
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

    def leftover(self) -> str:
        """Return why events are left over."""
        situation, course, plenty = self._situation, self._course, self._plenty
        late = [demand for demand in situation.demands if demand.events and course.left[demand.name]]
        limited = [demand for demand in late if any(route.latest >= 0 for route in demand.routes)]
        number, leave = self._fewer_left(limited)
        if plenty.leftover < min(course.leftover, leave):
            return self._workers_bind(f"{course.leftover:,} are left over", f"{plenty.leftover:,}")
        if course.failed == course.leftover:
            attempts = f"{situation.max_attempts} attempts" if situation.max_attempts > 1 else "the only attempt"
            return f"failing calls bind: {_events_are(course.failed)} expected to fail in {attempts}"
        if not late:
            told = f"{_events_are(course.leftover)} not expected to be answered before the deadline"
            return f"calls under way bind: {told}"
        if not limited:
            return (
                f"the deadline binds: in {_seconds(situation.deadline)} there is no time for a call of {_names(late)}"
            )
        advice = f"; {_more(number, limited)} would leave {f'{leave:,}' if leave else 'none over'}" if number else ""
        return self._limits_leave(limited, advice)

    def _limits_leave(self, limited: Sequence[Demand], advice: str) -> str:
        course, plenty, shut = self._course, self._plenty, self._shut_windows(limited)
        fewer = plenty.leftover < course.leftover
        change = f"with more workers {plenty.leftover:,}" if fewer else "however many workers"
        result = f"{sum(course.left[one.name] for one in limited):,} will be left over, {change}"
        late = {window.name for window in shut if window.rest >= self._situation.deadline}
        unreachable = all(late.intersection(route.windows) for one in limited for route in one.routes)
        if unreachable and (probed := [one.name for one in shut if one.shut is Circuit.PROBING]):
            # Calls go there one at a time, and the first good answer opens it: that there is none is an assumption.
            others = [one for one in shut if one.shut is not Circuit.PROBING]
            names = listed(probed) if len(probed) <= MOST_NAMED else named(probed, 1)
            assumed = f"no call to {names} is counted on until a probe is answered well: unless one is"
            return f"{assumed}, {result}{self._told(others)}"
        who = f"no endpoint of {_names(limited)} can be called" if unreachable else self._who(limited)
        return f"{who} until the deadline at {self._at(self._situation.deadline)}: {result}{advice}{self._told(shut)}"

    def _who(self, limited: Sequence[Demand]) -> str:
        """Return whose limits bind, and of how many events left over if budgets do beside them."""
        left, free = self._course.left, self._free
        of_budget = [one for one in limited if free and _budgets([one]) and free.left[one.name] < left[one.name]]
        others = [one for one in limited if one not in of_budget]
        if not of_budget or not others:
            return _budgets_bind(of_budget) if of_budget else _limits_bind(others)
        by_budget, by_limit = (sum(left[one.name] for one in some) for some in (of_budget, others))
        budgets = f"{_budgets_bind(of_budget)} ({by_budget:,} of {_names(of_budget)})"
        return f"{budgets} and {_limits_bind(others)} ({by_limit:,})"

    def end(self, target: int) -> str:
        """Return what the end waits for."""
        course, plenty, best = self._course, self._plenty, self._choice.best
        end, soonest = self._at(course.forecast), self._at(plenty.forecast)
        if course.forecast <= target and plenty.forecast < WORTH_IT * course.forecast:
            done = f"with {counted(self._choice.workers, 'worker')} all is done at {end}"
            return f"nothing binds: {done}, before the target of {self._at(target)}; with more it could be {soonest}"
        if plenty.forecast < WORTH_IT * best.forecast:
            return self._workers_bind(f"all is done at {self._at(best.forecast)}", soonest)
        last = max(plenty.starts, key=lambda start: start.at + start.takes)
        if last.at + last.takes < plenty.forecast:
            return _LAST_CALLS
        if last.at < last.takes:
            begun = f"begins at {self._at(last.at)} and takes {_seconds(last.takes)}"
            return f"nothing binds: the last call, of {last.type}, {begun}"
        begins = {start.type: start.at for start in plenty.starts}
        limited = [one for one in self._situation.demands if begins.get(one.name, 0) >= WORTH_IT * last.at]
        by_budget = self._free and _budgets(limited) and self._free.forecast < WORTH_IT * course.forecast
        binds = _budgets_bind(limited) if by_budget else _limits_bind(limited)
        change, besides = "more workers change nothing", ""
        if soonest != end:
            change, besides = f"with more workers the end could be {soonest} instead of {end}", "they and "
        advice = f"; {besides}{sooner}" if (sooner := self._sooner(limited)) else ""
        return f"{binds} until {self._at(last.at)}; {change}{advice}{self._told(self._shut_windows(limited))}"

    def _workers_bind(self, now: str, better: str) -> str:
        capacity = self._capacity
        most = counted(capacity.max_workers, "worker")
        maximum = " (the maximum)" if capacity.min_workers < capacity.max_workers else ""
        maximum = " (the hosts take no more)" if capacity.of_hosts else maximum
        return f"workers bind: with {most}{maximum} {now}; with more it could be {better}"

    def _sooner(self, limited: Sequence[Demand]) -> str:
        """Return what the fewest more overflow endpoints would change that make a difference to the end, if any do."""
        for number, other in self._with_more(limited):
            if other.forecast < WORTH_IT * self._course.forecast:
                return f"{_more(number, limited)} would finish at {self._at(other.forecast)}"
        return ""

    def _fewer_left(self, limited: Sequence[Demand]) -> tuple[int, int]:
        """Return the fewest more overflow endpoints that leave none over, else 1, and what it leaves; 0 if no fewer."""
        of_one = self._course.leftover
        for number, other in self._with_more(limited):
            if not other.leftover:
                return number, 0
            of_one = other.leftover if number == 1 else of_one
        return int(of_one < self._course.leftover), of_one

    def _with_more(self, limited: Sequence[Demand]) -> Iterator[tuple[int, Course]]:
        """Yield number and course for each number of more overflow endpoints, while there is time for it.

        An operator's pause is to be ended before any other endpoint is added.
        """
        paused = any(window.shut is Circuit.PAUSED for window in self._shut_windows(limited))
        if limited and self._capacity.lanes and not paused and not self._situation.must_be_quick:
            names = [one.name for one in limited]
            for number in range(1, MOST_ADDED + 1):
                yield number, simulate(self._situation.with_more(names, number), self._capacity.lanes)

    def _shut_windows(self, demands: Sequence[Demand]) -> list[SimulatedWindow]:
        """Return the windows of endpoints and budgets of these types that are shut, in the order of use, each once."""
        names = dict.fromkeys(name for one in demands for route in one.routes for name in route.windows)
        return [window for window in (self._situation.windows[name] for name in names) if window.rest > 0]

    def _told(self, shut: Sequence[SimulatedWindow]) -> str:
        """Name the endpoints and budgets that are shut, and why: that makes a limit tighter than it is."""
        alike: dict[str, list[SimulatedWindow]] = {}
        for one in shut:
            endless = one.rest == NEVER and one.shut is not Circuit.PROBING
            alike.setdefault("endless" if endless else one.shut, []).append(one)
        parts: list[str] = []
        for reason, group in alike.items():
            of_one, of_many = _SHUT[reason]
            if len(group) <= MOST_NAMED:
                parts += [f"{one.name} {of_one.format(self._at(one.rest))}" for one in group]
            else:
                last = self._at(max(one.rest for one in group))
                parts.append(f"{group[0].name} and {len(group) - 1:,} more {of_many.format(last)}")
        return f" ({', '.join(parts)})" if parts else ""

    def _at(self, moment: int) -> str:
        """Return a moment in minutes and seconds since the run's start: `1:40`."""
        minutes, seconds = divmod(round((self._situation.gone + moment) / SECOND), 60)
        return f"{minutes}:{seconds:02}"


def _limits_bind(demands: Sequence[Demand]) -> str:
    several = len(demands) > 1
    return f"the limit{'s' if several else ''} of {_names(demands)} {'bind' if several else 'binds'}"


def _budgets_bind(demands: Sequence[Demand]) -> str:
    first, *others = _budgets(demands)
    if not others:
        return f"the budget {first} binds"
    return f"the budgets {first} and {others[0] if len(others) == 1 else f'{len(others)} more'} bind"


def _budgets(demands: Sequence[Demand]) -> list[str]:
    return sorted({route.budget for demand in demands for route in demand.routes if route.budget is not None})


def _more(number: int, demands: Sequence[Demand]) -> str:
    """Name so many more overflow endpoints for each type, a single one by its place if that is the same for all."""
    each = " for each" if len(demands) > 1 else ""
    if number > 1:
        return f"{number} more overflow endpoints{each}"
    place, *others = {len(demand.routes) for demand in demands}
    one = "one more" if others or place >= len(_ORDINALS) else f"a {_ORDINALS[place]}"
    return f"{one} overflow endpoint{each}"


def _names(demands: Sequence[Demand]) -> str:
    """Name two types, or the first of more and how many others there are."""
    first, *others = (one.name for one in demands)
    return f"{first} and {len(others)} more types" if len(others) > 1 else " and ".join([first, *others])


def _events_are(number: int) -> str:
    return f"{counted(number, 'event')} {'is' if number == 1 else 'are'}"


def _seconds(time: int) -> str:
    """Return a duration as exactly as a forecast can be: to a tenth of a second, or two digits below one."""
    seconds = time / SECOND
    return f"{round(seconds, 1):g} s" if seconds >= 1 else f"{seconds:.2g} s"
