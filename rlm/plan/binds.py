"""Says in one sentence what keeps a plan from ending sooner, by comparing it with one that has lanes to spare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rlm.plan.gate import SECOND, ticks
from rlm.plan.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm.plan.simulate import Course, Demand, Situation
    from rlm.plan.values import Capacity, Horizon
    from rlm.plan.workers import Choice

#: Times the lanes of the most workers allowed, to see what more workers would change.
PLENTY: Final = 10

#: Workers bind where more of them would take a tenth or more off the time.
WORTH_IT: Final = 0.9


def what_binds(situation: Situation, choice: Choice, capacity: Capacity, horizon: Horizon) -> str:
    """Name the constraint that binds: a type's limit, the workers, the deadline, or nothing."""
    if not any(demand.events for demand in situation.demands):
        return "nothing binds: there is nothing to do"
    course, best = choice.course, choice.best
    plenty = simulate(situation, PLENTY * max(capacity.max_workers, 1) * capacity.threads)
    most = _workers(capacity.max_workers) + (" (the maximum)" if capacity.min_workers < capacity.max_workers else "")
    if plenty.leftover < course.leftover:
        return f"workers bind: with {most} {course.leftover:,} are left over; with more it could be {plenty.leftover:,}"
    if course.leftover:
        return _leftover(situation, course)
    target = ticks(horizon.target_seconds)
    if course.forecast <= target and plenty.forecast < WORTH_IT * course.forecast:
        done = f"with {_workers(choice.workers)} all is done at {_clock(course.forecast)}, before the target of"
        return f"nothing binds: {done} {_clock(target)}; with more it could be {_clock(plenty.forecast)}"
    if plenty.forecast < WORTH_IT * best.forecast:
        done = f"with {most} all is done at {_clock(best.forecast)}"
        return f"workers bind: {done}; with more it could be {_clock(plenty.forecast)}"
    return _end(situation, course, plenty)


def _leftover(situation: Situation, course: Course) -> str:
    """Say why events are left over where more workers would not help."""
    late = [demand for demand in situation.demands if course.left[demand.name]]
    limited = [demand for demand in late if demand.takes <= situation.deadline]
    if not limited:
        return f"the deadline binds: in {_seconds(situation.deadline)} there is no time for a call of {_names(late)}"
    number = sum(course.left[demand.name] for demand in limited)
    return (
        f"{_limits(limited)} until the deadline at {_clock(situation.deadline)}: {number:,} will be left over; "
        f"more workers change nothing{_resting(situation, limited)}"
    )


def _end(situation: Situation, course: Course, plenty: Course) -> str:
    """Say what the end waits for where more workers would make little difference."""
    last = max(situation.demands, key=lambda demand: plenty.answered.get(demand.name, 0))
    begins = plenty.forecast - last.takes
    if begins < last.takes:
        begun = f"the last call, of {last.name}, begins at {_clock(begins)} and takes {_seconds(last.takes)}"
        return f"nothing binds: {begun}"
    change = "more workers change nothing"
    if _clock(plenty.forecast) != _clock(course.forecast):
        change = f"with more workers the end could be {_clock(plenty.forecast)} instead of {_clock(course.forecast)}"
    return f"{_limits([last])} until {_clock(begins)}; {change}{_resting(situation, [last])}"


def _limits(demands: Sequence[Demand]) -> str:
    return f"the limit of {_names(demands)} binds" if len(demands) == 1 else f"the limits of {_names(demands)} bind"


def _names(demands: Sequence[Demand]) -> str:
    first, *others = [demand.name for demand in demands]
    if len(others) > 1:
        return f"{first} and {len(others)} more types"
    return " and ".join([first, *others])


def _resting(situation: Situation, demands: Sequence[Demand]) -> str:
    """Name the endpoints whose rest makes a limit tighter than it is."""
    gates = [situation.gates[name] for demand in demands for name in demand.gates]
    resting = ", ".join(f"{gate.name} rests until {_clock(gate.rest)}" for gate in gates if gate.rest > 0)
    return f" ({resting})" if resting else ""


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number:,} workers"


def _seconds(at: int) -> str:
    return f"{at / SECOND:g} s"


def _clock(at: int) -> str:
    minutes, seconds = divmod(round(at / SECOND), 60)
    return f"{minutes}:{seconds:02}"
