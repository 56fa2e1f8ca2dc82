"""What keeps a plan from ending sooner or leaving less over, by comparison with a lane for every event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rlm.core.text import counted, named
from rlm.plan.simulate import Course, simulate
from rlm.plan.situation import Capacity, Demand, Situation
from rlm.plan.window import SECOND

#: Something binds if more of it would shorten the time by a tenth or more.
WORTH_IT: Final = 0.9
#: The most types, endpoints or budgets that a sentence names.
MOST_NAMED: Final = 3


def what_binds(situation: Situation, course: Course, best: Course, capacity: Capacity, target: int) -> str:
    """Return in a sentence what binds a plan: its `course`, beside the `best` with the most workers."""

    def clock(moment: int) -> str:
        """Return a moment in minutes and seconds since the run's start: `1:40`."""
        minutes, seconds = divmod(round((situation.gone + moment) / SECOND), 60)
        return f"{minutes}:{seconds:02}"

    if not course.starts and not course.leftover:
        why = "the last calls are under way" if situation.busy else "there is nothing to do"
        return f"nothing binds: {why}"
    plenty = simulate(situation, max(capacity.lanes, situation.events + len(situation.busy)))
    is_early = course.forecast <= target and not course.leftover
    over = f"{counted(course.leftover, 'event')} left over"
    if 2 * plenty.leftover < course.leftover or (
        not course.leftover and not is_early and plenty.forecast < WORTH_IT * best.forecast
    ):
        now = over if course.leftover else f"all is done at {clock(best.forecast)}"
        better = f"{plenty.leftover:,}" if course.leftover else clock(plenty.forecast)
        most = counted(capacity.max_workers, "worker")
        return f"workers bind: with {most} {now}; with more it could be {better}"
    if course.leftover:
        return _leaves_over(situation, course, over, f"the deadline at {clock(situation.deadline)}")
    last = max(plenty.starts, key=lambda start: start.at + start.takes)
    if plenty.forecast < WORTH_IT * course.forecast or last.at < last.takes:
        return f"nothing binds: all is done at {clock(course.forecast)}"
    begins = {start.type: start.at for start in plenty.starts}
    limited = [demand for demand in situation.demands if begins.get(demand.name, 0) >= WORTH_IT * last.at]
    return f"{_limits_of(limited, situation)} until {clock(last.at)}; more workers change nothing"


def _leaves_over(situation: Situation, course: Course, over: str, deadline: str) -> str:
    """Return why events are left over that more workers would not send."""
    late = [demand for demand in situation.demands if course.left[demand.name] and demand.events]
    limited = [demand for demand in late if any(route.latest >= 0 for route in demand.routes)]
    if not limited:
        return f"{deadline} binds: {over}, for which there is no time"
    return f"{_limits_of(limited, situation)} until {deadline}: {over}"


def _limits_of(demands: Sequence[Demand], situation: Situation) -> str:
    budgets = sorted({name for demand in demands for route in demand.routes for name in route.windows[1:]})
    besides = f" and the budget {named(budgets, MOST_NAMED)}" if budgets else ""
    shut = [f"{name} is {why}" for name, why in _shut(demands, situation).items()]
    facts = f" ({named(shut, MOST_NAMED)})" if shut else ""
    return f"the limits of {named([demand.name for demand in demands], MOST_NAMED)}{besides} bind{facts}"


def _shut(demands: Sequence[Demand], situation: Situation) -> dict[str, str]:
    """Return why the shut windows of these types' endpoints and budgets are shut, in the order of use."""
    names = (name for demand in demands for route in demand.routes for name in route.windows)
    return {name: situation.shut[name] for name in names if name in situation.shut}
