"""What keeps a plan from ending sooner or leaving less over, by comparison with a lane for every event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rlm.core.text import counted, named
from rlm.plan.simulate import Course, simulate
from rlm.plan.situation import Capacity, Demand, Situation
from rlm.plan.window import SECOND, SimulatedWindow

#: Something binds if more of it would shorten the time by a tenth or more.
WORTH_IT: Final = 0.9
#: The most types, endpoints or budgets that a sentence names.
MOST_NAMED: Final = 3


def what_binds(situation: Situation, course: Course, best: Course, capacity: Capacity, target: int) -> str:
    """Return in a sentence what binds a plan: its `course`, beside the `best` with the most workers."""
    if not course.starts and not course.leftover:
        return f"nothing binds: {'the last calls are under way' if situation.busy else 'there is nothing to do'}"
    plenty = simulate(situation, max(capacity.lanes, situation.events + len(situation.busy)))
    over, done = _left(course.leftover), f"all is done at {_clock(situation, best.forecast)}"
    early = course.forecast <= target and not course.leftover
    sooner = plenty.forecast < WORTH_IT * best.forecast
    if 2 * plenty.leftover < course.leftover or (not course.leftover and sooner and not early):
        most = counted(capacity.max_workers, "worker")
        better = f"{plenty.leftover:,}" if course.leftover else _clock(situation, plenty.forecast)
        return f"workers bind: with {most} {over if course.leftover else done}; with more it could be {better}"
    if course.leftover:
        return _leaves_over(situation, course, over)
    if plenty.forecast < WORTH_IT * course.forecast:
        return f"nothing binds: all is done at {_clock(situation, course.forecast)}, before the target"
    last = max(plenty.starts, key=lambda start: start.at + start.takes)
    if last.at < last.takes:
        return f"nothing binds: the last call, of {last.type}, begins at {_clock(situation, last.at)}"
    begins = {start.type: start.at for start in plenty.starts}
    limited = [demand for demand in situation.demands if begins.get(demand.name, 0) >= WORTH_IT * last.at]
    return f"{_limits_of(limited, situation)} until {_clock(situation, last.at)}; more workers change nothing"


def _leaves_over(situation: Situation, course: Course, over: str) -> str:
    """Return why events are left over that more workers would not send."""
    late = [
        each for each in situation.demands if each.events and course.left[each.name] > course.failed.get(each.name, 0)
    ]
    limited = [demand for demand in late if any(route.latest >= 0 for route in demand.routes)]
    deadline = f"the deadline at {_clock(situation, situation.deadline)}"
    if sum(course.failed.values()) == course.leftover:
        return f"failing calls bind: {over}, because they fail as often as they are tried"
    if not late:
        return f"calls under way bind: {over}, because they are not expected to be answered in time"
    if not limited:
        return f"{deadline} binds: no call of {_names(late)} fits before it"
    shut = [demand for demand in limited if _is_unreachable(demand, situation)]
    if shut and 2 * sum(course.left[demand.name] for demand in shut) > course.leftover:
        return (
            f"no endpoint of {_names(shut)} can be called before the deadline: {over}{_shut_in_words(shut, situation)}"
        )
    return f"{_limits_of(limited, situation)} until {deadline}: {over}"


def _limits_of(demands: Sequence[Demand], situation: Situation) -> str:
    budgets = sorted({route.budget for demand in demands for route in demand.routes if route.budget is not None})
    besides = f" and the budget {named(budgets, MOST_NAMED)}" if budgets else ""
    return f"the limits of {_names(demands)}{besides} bind{_shut_in_words(demands, situation)}"


def _shut_in_words(demands: Iterable[Demand], situation: Situation) -> str:
    facts = [f"{window.name} is {window.shut}" for window in _shut_windows(demands, situation)]
    return f" ({named(facts, MOST_NAMED)})" if facts else ""


def _shut_windows(demands: Iterable[Demand], situation: Situation) -> list[SimulatedWindow]:
    """Return the shut windows of these types' endpoints and budgets in the order of use, each once."""
    names = dict.fromkeys(name for demand in demands for route in demand.routes for name in route.windows)
    return [window for window in (situation.windows[name] for name in names) if window.rest > 0]


def _is_unreachable(demand: Demand, situation: Situation) -> bool:
    late = {window.name for window in _shut_windows([demand], situation) if window.rest >= situation.deadline}
    return all(late.intersection(route.windows) for route in demand.routes)


def _names(demands: Iterable[Demand]) -> str:
    return named([demand.name for demand in demands], MOST_NAMED)


def _left(number: int) -> str:
    return f"{counted(number, 'event')} {'is' if number == 1 else 'are'} left over"


def _clock(situation: Situation, moment: int) -> str:
    """Return a moment in minutes and seconds since the run's start: `1:40`."""
    minutes, seconds = divmod(round((situation.gone + moment) / SECOND), 60)
    return f"{minutes}:{seconds:02}"
