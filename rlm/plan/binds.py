"""Says in one sentence what keeps a plan from ending sooner, by comparing it with one of more lanes or endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rlm.core.health import Circuit
from rlm.plan.gate import NEVER, SECOND, ticks
from rlm.plan.simulate import simulate
from rlm.plan.situation import MANY_ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rlm.plan.course import Course
    from rlm.plan.gate import Gate
    from rlm.plan.situation import Demand, Situation
    from rlm.plan.values import Capacity, Horizon
    from rlm.plan.workers import Choice

#: Something binds where more of it would take a tenth or more off the time.
WORTH_IT: Final = 0.9
#: So many more overflow endpoints for each type are tried, at the most.
MOST_ADDED: Final = 3
#: Of more than so many endpoints and budgets that are shut for the same reason only one is named.
MOST_NAMED: Final = 3

#: What is said of one that is shut, and of many, by the reason.
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    Circuit.PROBING: ("is not counted on until it answers well", "are not counted on until they answer well"),
    "endless": ("is paused until resumed", "are paused until resumed"),
    Circuit.PAUSED: ("is paused until {}", "are paused until {} at the latest"),
    Circuit.HELD: ("is held until {}", "are held until {} at the latest"),
    Circuit.RESTING: ("rests until {}", "rest until {} at the latest"),
}
_ORDINALS: Final = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def what_binds(situation: Situation, choice: Choice, capacity: Capacity, horizon: Horizon) -> str:
    """Name the constraint that binds: a type's limit or a budget, the workers, the deadline, or nothing.

    Where there is time for it, say also what more overflow endpoints would change.
    """
    course, best = choice.course, choice.best
    if not situation.events and not course.leftover:
        return f"nothing binds: {'the last calls are under way' if situation.busy else 'there is nothing to do'}"
    plenty = choice.alone if situation.must_be_quick and situation.separable else _plenty(situation, capacity)
    most = _workers(capacity.max_workers) + (" (the maximum)" if capacity.min_workers < capacity.max_workers else "")
    lanes = 0 if situation.must_be_quick else capacity.max_workers * capacity.threads
    # Whether a budget binds is looked at under way too: one simulation, where any type has a budget.
    free = None if len(situation.gates) > MANY_ENDPOINTS else _without_budgets(situation, capacity)
    if course.leftover:
        return _leftover(situation, course, plenty, free, lanes, most)
    target, soonest = ticks(horizon.target_seconds), _at(situation, plenty.forecast)
    if course.forecast <= target and plenty.forecast < WORTH_IT * course.forecast:
        done = f"with {_workers(choice.workers)} all is done at {_at(situation, course.forecast)}, before the target of"
        return f"nothing binds: {done} {_at(situation, target)}; with more it could be {soonest}"
    if plenty.forecast < WORTH_IT * best.forecast:
        return (
            f"workers bind: with {most} all is done at {_at(situation, best.forecast)}; with more it could be {soonest}"
        )
    return _end(situation, course, plenty, free, lanes)


def _plenty(situation: Situation, capacity: Capacity) -> Course:
    """See what more workers could change: what it comes to with a lane for every event."""
    lanes = capacity.max_workers * capacity.threads
    return simulate(situation, max(lanes, situation.events + len(situation.busy)))


def _without_budgets(situation: Situation, capacity: Capacity) -> Course | None:
    """See what it comes to on all workers where no endpoint has a budget; None where none has one."""
    if not any(route.budget for demand in situation.demands if demand.events for route in demand.routes):
        return None
    return simulate(situation.without_budgets(), capacity.max_workers * capacity.threads)


def _leftover(situation: Situation, course: Course, plenty: Course, free: Course | None, lanes: int, most: str) -> str:
    """Say why events are left over."""
    late = [demand for demand in situation.demands if demand.events and course.left[demand.name]]
    limited = [demand for demand in late if any(route.latest >= 0 for route in demand.routes)]
    fewest, advice = _fewer_left(situation, course, limited, lanes)
    if plenty.leftover < min(course.leftover, fewest):
        return f"workers bind: with {most} {course.leftover:,} are left over; with more it could be {plenty.leftover:,}"
    if course.failed == course.leftover:
        attempts = f"{situation.max_attempts} attempts" if situation.max_attempts > 1 else "the only attempt"
        return f"failing calls bind: {_events(course.failed)} expected to fail in {attempts}"
    if not late:
        return f"calls under way bind: {_events(course.leftover)} not expected to be answered before the deadline"
    if not limited:
        return f"the deadline binds: in {_seconds(situation.deadline)} there is no time for a call of {_names(late)}"
    number = sum(course.left[demand.name] for demand in limited)
    change = "however many workers" if plenty.leftover >= course.leftover else f"with more workers {plenty.leftover:,}"
    gates, by = _shut(situation, limited), f" until the deadline at {_at(situation, situation.deadline)}: "
    shut = _shut_by([gate.name for gate in gates if gate.rest >= situation.deadline], limited)
    if shut and (probed := _probed(gates)):
        others = [gate for gate in gates if gate.shut is not Circuit.PROBING]
        return f"{probed}{number:,} will be left over, {change}{_resting(situation, others)}"
    reason = f"no endpoint of {_names(limited)} can be called" if shut else _reason(course, limited, free)
    return f"{reason}{by}{number:,} will be left over, {change}{advice}{_resting(situation, gates)}"


def _reason(course: Course, limited: Sequence[Demand], free: Course | None) -> str:
    """Say whose limits or budgets leave events over; of both, how many each."""
    budgeted = [one for one in limited if free and _budgets([one]) and free.left[one.name] < course.left[one.name]]
    others = [one for one in limited if one not in budgeted]
    if not budgeted or not others:
        return _budgets(budgeted) or _limits(others)
    by_budget, by_limit = (sum(course.left[one.name] for one in part) for part in (budgeted, others))
    return f"{_budgets(budgeted)} ({by_budget:,} of {_names(budgeted)}) and {_limits(others)} ({by_limit:,})"


def _end(situation: Situation, course: Course, plenty: Course, free: Course | None, lanes: int) -> str:
    """Say what the end waits for where more workers would make little difference."""
    last = max(plenty.starts, key=lambda start: start.at + start.takes)
    if last.at + last.takes < plenty.forecast:
        return "nothing binds: the last calls are under way"
    if last.at < last.takes:
        begun = f"the last call, of {last.type}, begins at {_at(situation, last.at)} and takes {_seconds(last.takes)}"
        return f"nothing binds: {begun}"
    begins = {start.type: start.at for start in plenty.starts}
    limited = [one for one in situation.demands if begins.get(one.name, 0) >= WORTH_IT * last.at]
    change, besides = "more workers change nothing", ""
    soonest, end = _at(situation, plenty.forecast), _at(situation, course.forecast)
    if soonest != end:
        change = f"with more workers the end could be {soonest} instead of {end}"
        besides = "they and "
    budgets = _budgets(limited)
    binds = budgets and free and free.forecast < WORTH_IT * course.forecast
    return (
        f"{budgets if binds else _limits(limited)} until {_at(situation, last.at)}; "
        f"{change}{_sooner(situation, course, limited, lanes, besides)}"
        f"{_resting(situation, _shut(situation, limited))}"
    )


def _sooner(situation: Situation, course: Course, limited: Sequence[Demand], lanes: int, besides: str) -> str:
    """Say when so few more overflow endpoints as make a difference would have it done, on so many lanes."""
    for number in range(1, MOST_ADDED + 1) if lanes and not _is_paused(situation, limited) else ():
        other = simulate(situation.with_more([one.name for one in limited], number), lanes)
        if other.forecast < WORTH_IT * course.forecast:
            others = _overflow_endpoints(number, limited)
            return f"; {besides}{others} would finish at {_at(situation, other.forecast)}"
    return ""


def _fewer_left(situation: Situation, course: Course, limited: Sequence[Demand], lanes: int) -> tuple[int, str]:
    """Say how many more overflow endpoints leave none over, or else what a single one would leave; and how many."""
    left = []
    for number in range(1, MOST_ADDED + 1) if lanes and limited and not _is_paused(situation, limited) else ():
        left.append(simulate(situation.with_more([one.name for one in limited], number), lanes).leftover)
        if not left[-1]:
            return 0, f"; {_overflow_endpoints(number, limited)} would leave none over"
    if left and left[0] < course.leftover:
        return left[0], f"; {_overflow_endpoints(1, limited)} would leave {left[0]:,}"
    return course.leftover, ""


def _overflow_endpoints(number: int, demands: Sequence[Demand]) -> str:
    """Name more overflow endpoints than there are."""
    next_one = {len(demand.routes) for demand in demands}
    each = " for each" if len(demands) > 1 else ""
    if number > 1:
        return f"{number} more overflow endpoints{each}"
    ordinal = next_one.pop() if len(next_one) == 1 else len(_ORDINALS)
    return (
        f"a {_ORDINALS[ordinal]} overflow endpoint{each}"
        if ordinal < len(_ORDINALS)
        else f"one more overflow endpoint{each}"
    )


def _budgets(demands: Sequence[Demand]) -> str:
    """Say that the budgets of these types bind, nothing where they have none."""
    found = sorted({route.budget for demand in demands for route in demand.routes if route.budget is not None})
    if not found:
        return ""
    first, *others = found
    if not others:
        return f"the budget {first} binds"
    return f"the budgets {first} and {others[0] if len(others) == 1 else f'{len(others)} more'} bind"


def _probed(gates: Sequence[Gate]) -> str:
    """Say of types of which all is shut that their endpoints are probed; nothing where none of them is.

    Calls go there, one at a time, and the first that is answered well opens it: that none will be is an assumption.
    """
    names = [gate.name for gate in gates if gate.shut is Circuit.PROBING]
    if len(names) > MOST_NAMED:
        names = [names[0], f"{len(names) - 1:,} more"]
    told = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"no call to {told} is counted on until a probe is answered well: unless one is, " if names else ""


def _shut_by(names: Collection[str], demands: Sequence[Demand]) -> bool:
    """Return whether each endpoint of these types, or its budget, is one of `names`."""
    return all(route.gate in names or route.budget in names for one in demands for route in one.routes)


def _limits(demands: Sequence[Demand]) -> str:
    return f"the limit of {_names(demands)} binds" if len(demands) == 1 else f"the limits of {_names(demands)} bind"


def _names(demands: Sequence[Demand]) -> str:
    first, *others = [demand.name for demand in demands]
    if len(others) > 1:
        return f"{first} and {len(others)} more types"
    return " and ".join([first, *others])


def _shut(situation: Situation, demands: Sequence[Demand]) -> list[Gate]:
    """Return the gates of endpoints and budgets of these types that are shut, in the order of use, each once."""
    names = {name: None for one in demands for route in one.routes for name in (route.gate, route.budget) if name}
    return [gate for gate in (situation.gates[name] for name in names) if gate.rest > 0]


def _is_paused(situation: Situation, demands: Sequence[Demand]) -> bool:
    """Tell whether an operator's pause is among what binds: to end that comes before any other endpoint."""
    return any(gate.shut is Circuit.PAUSED for gate in _shut(situation, demands))


def _resting(situation: Situation, shut: Sequence[Gate]) -> str:
    """Name the endpoints and budgets that are shut, and why, which makes a limit tighter than it is."""
    alike: dict[str, list[Gate]] = {}
    for gate in shut:
        alike.setdefault(_why(gate), []).append(gate)
    resting = [part for why, gates in alike.items() for part in _told(situation, why, gates)]
    return f" ({', '.join(resting)})" if resting else ""


def _told(situation: Situation, why: str, gates: Sequence[Gate]) -> list[str]:
    """Say why they are shut, of each; of many in one go, and how long the last of them is."""
    one, many = _WORDS[why]
    if len(gates) <= MOST_NAMED:
        return [f"{gate.name} {one.format(_at(situation, gate.rest))}" for gate in gates]
    last = _at(situation, max(gate.rest for gate in gates))
    return [f"{gates[0].name} and {len(gates) - 1:,} more {many.format(last)}"]


def _why(gate: Gate) -> str:
    return "endless" if gate.rest == NEVER and gate.shut is not Circuit.PROBING else gate.shut


def _events(number: int) -> str:
    return "1 event is" if number == 1 else f"{number:,} events are"


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number:,} workers"


def _seconds(at: int) -> str:
    return f"{at / SECOND:g} s"


def _at(situation: Situation, moment: int) -> str:
    """Write a moment as it is counted from the run's start, whenever the plan was made: `1:40`."""
    minutes, seconds = divmod(round((situation.gone + moment) / SECOND), 60)
    return f"{minutes}:{seconds:02}"
