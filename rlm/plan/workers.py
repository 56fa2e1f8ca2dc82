"""The number of workers: enough for the smallest possible leftover, and the fewest that end by the target.

If the limits keep the end beyond the target, there is no time to spare. Then the plan has as many lanes as can be busy
at once, so that a late start, a slow call or a retry does not leave over what the limits admit. They cost little.

More lanes do not always help: a long call of a lower type may take a lane that a higher type could have used a moment
later, so the end is later than with one lane less. Every schedule by priority has such anomalies. So the goal is the
bound that no schedule can beat (`Bound`), or else the best result of any examined number of workers. If every number is
examined, allowing more never makes a plan worse.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from rlm.plan.simulate import Course, Start, simulate
from rlm.plan.situation import MANY_ENDPOINTS, Capacity, Demand, Horizon, Situation
from rlm.plan.window import NEVER, ticks

#: Up to twice this, every number of workers is examined; beyond that, steps are one part in this many.
FINENESS: Final = 32
#: The same when there is little time.
LEAST_FINENESS: Final = 2


class Choice(msgspec.Struct, frozen=True):
    """The number of workers, their course, the best course of any allowed number, and a bound for each.

    `alone` is the course if each type had its endpoints to itself and a lane for every event.
    """

    workers: int
    course: Course
    best: Course
    alone: Course
    bound: Bound


def choose_workers(situation: Situation, capacity: Capacity, horizon: Horizon) -> Choice:
    """Return the number of workers with the smallest leftover possible, or of any number, that end by the goal.

    If the goal is the target, it is the fewest; if the target cannot be met, as many as can have a call each.
    """
    search = _Search(situation, capacity, horizon)
    return search.at_the_bound() or search.at_the_best()


def best_course(situation: Situation, lanes: int, bound: Bound) -> Course:
    """Return the course with that many lanes, some of them kept for urgent types if that leaves less over in all.

    At first it must also leave over no more of any type and the more urgent ones together. A run that keeps lanes keeps
    the same ones as long as it gains by them, so no plan of its rest leaves more over than the last.
    """
    course = simulate(situation, lanes)
    is_apt = len(situation.windows) <= MANY_ENDPOINTS and not any(demand.share for demand in situation.demands)
    if not is_apt or course.leftover <= bound.leftover(lanes) or not (kept := situation.kept or bound.kept(course)):
        return course
    keeping = simulate(situation, lanes, kept)
    sums = map(itertools.accumulate, (keeping.left.values(), course.left.values()))
    spares_urgent = bool(situation.kept) or all(one <= other for one, other in zip(*sums, strict=True))
    return keeping if keeping.leftover < course.leftover and spares_urgent else course


class _Search:
    """The allowed numbers of workers in ascending order, and the course of each."""

    def __init__(self, situation: Situation, capacity: Capacity, horizon: Horizon) -> None:
        self._bound = bound = Bound(situation)
        self._run: Callable[[int], Course] = functools.cache(
            lambda workers: best_course(situation, workers * capacity.threads, bound)
        )
        self._busy = most_at_once(situation)
        self._threads = capacity.threads
        self._target = ticks(horizon.target_seconds)
        needed = 1 if situation.events or situation.busy else 0
        self._most = capacity.max_workers
        fineness = LEAST_FINENESS if situation.must_be_quick else FINENESS
        self._allowed = list(_numbers(min(self._most, max(capacity.min_workers, needed)), self._most, fineness))

    def at_the_bound(self) -> Choice | None:
        """Return workers that leave over only what the limits do, and end by the goal; None if there are none."""
        bound = self._bound
        goal = self._goal(bound.of_all)
        for workers in self._in_order(goal):
            lanes = workers * self._threads
            if bound.leftover(lanes) > bound.leftover_of_limits or bound.of_all.end(lanes) > goal:
                continue
            course = self._run(workers)
            if course.left == bound.left and course.forecast <= goal:
                best = course if course.forecast <= self._target else self._run(self._most)
                return Choice(workers, course, best, bound.alone, bound)
        return None

    def at_the_best(self) -> Choice:
        """Return workers that leave over no more than the best number does, and end by the goal.

        The goal is that for the events which the best number answers, or the end of the best number if that is later.
        """
        best = self._best()
        goal = max(self._goal(self._bound.of_course(best)), best.forecast)
        may_do = (one for one in self._in_order(goal) if self._may_do(one, best))
        enough = (one for one in may_do if self._run(one).left == best.left and self._run(one).forecast <= goal)
        workers = next(enough, self._most)
        return Choice(workers, self._run(workers), best, self._bound.alone, self._bound)

    def _best(self) -> Course:
        best = self._run(self._most)
        for workers in reversed(self._allowed):
            if not self._may_do(workers, best):
                break
            best = min(best, self._run(workers), key=_rank)
        return best

    def _may_do(self, workers: int, best: Course) -> bool:
        """Return whether this many workers can match the best leftover; fewer need no simulation."""
        return self._bound.leftover(workers * self._threads) <= best.leftover

    def _goal(self, bound: EventsBound) -> int:
        """Return when the run should be done: by the target or, if that is impossible, as soon as possible."""
        return max(self._target, bound.end(self._most * self._threads))

    def _in_order(self, goal: int) -> Iterable[int]:
        """Return the numbers to try: ascending; beyond the target, descending from the most that can all be busy."""
        if goal <= self._target:
            return self._allowed
        enough = next((one for one in self._allowed if one * self._threads >= self._busy), self._most)
        return [one for one in reversed(self._allowed) if one <= enough]


def _numbers(fewest: int, most: int, fineness: int) -> Iterator[int]:
    number = fewest
    while number < most:
        yield number
        number += max(1, number // fineness)
    yield most


def most_at_once(situation: Situation) -> int:
    """Return how many calls can be under way at once: as many as the limits let begin during one call's time."""
    in_all, of_budget, longest = 0, Counter[str | None](), Counter[str | None]()
    for one in situation.demands:
        slots = Counter[str | None]()
        for route in one.routes:
            slots[route.budget] += situation.windows[route.endpoint].most_within(route.takes)
            longest[route.budget] = max(longest[route.budget], route.takes)
        in_all += min(one.events, slots.total())
        of_budget.update({budget: min(one.events, number) for budget, number in slots.items()})
    for budget in of_budget:
        if budget is not None:
            of_budget[budget] = min(of_budget[budget], situation.windows[budget].most_within(longest[budget]))
    return len(situation.busy) + min(in_all, of_budget.total())


def _rank(course: Course) -> tuple[int, list[int], int]:
    """Return a key that sorts courses, best first: least leftover, then least of the highest type, then soonest end."""
    return course.leftover, list(course.left.values()), course.forecast


class Bound:
    """Bounds that no schedule of a situation can beat: the least leftover and the soonest end. Times in ticks.

    Alone and with a lane for every event, a type takes each slot when it opens; no schedule begins its k-th call
    sooner, whatever fails. Also, the calls that cannot begin before a moment must all be done after it on the available
    lanes.
    """

    def __init__(self, situation: Situation) -> None:
        self._demands = situation.demands
        self._shortest_first = sorted(situation.demands, key=lambda demand: demand.takes)
        self._deadline = situation.deadline
        self._openings = {demand.name: _openings(demand, situation) for demand in situation.demands if demand.events}
        self._fit = {
            demand.name: min(demand.events, sum(slots for _, slots in self._openings.get(demand.name, ())))
            for demand in situation.demands
        }
        self._late = Counter(
            busy.type for busy in situation.busy if busy.answered_at > situation.deadline and busy.type
        )

    @functools.cached_property
    def left(self) -> dict[str, int]:
        """By type, the fewest events left over with a lane for every event, including calls under way that end late."""
        return {one.name: one.events - self._fit[one.name] + self._late[one.name] for one in self._demands}

    @functools.cached_property
    def leftover_of_limits(self) -> int:
        """The same, summed over all types."""
        return sum(self.left.values())

    def leftover(self, lanes: int) -> int:
        """Return the fewest events left over on that many lanes, reached if the shortest calls go first."""
        work, leftover = lanes * self._deadline, self.leftover_of_limits
        for demand in self._shortest_first:
            begun = min(self._fit[demand.name], work // demand.takes)
            work -= begun * demand.takes
            leftover += self._fit[demand.name] - begun
        return leftover

    def kept(self, course: Course) -> dict[str, int]:
        """Return the lanes to keep for each type with shorter calls than a less urgent one: what it needs on average.

        Only for types of which `course` leaves over more than limits and failures do.
        """
        kept, longest = {}, 0
        for one in reversed(self._demands):
            failing = self._fit[one.name] * max(route.error_rate for route in one.routes)
            if one.takes < longest and course.left[one.name] > self.left[one.name] + failing:
                kept[one.name] = -(-self._fit[one.name] * one.takes // self._deadline)
            longest = max(longest, one.takes if one.events else 0)
        return kept

    @functools.cached_property
    def of_all(self) -> EventsBound:
        """The bound on the end of all events that the limits admit before the deadline."""
        return self.of_events(self._fit)

    @functools.cached_property
    def alone(self) -> Course:
        """The course of the types, each with its endpoints to itself, equal endpoints, and a lane for every event."""
        starts, answered = [], {}
        for demand in self._demands:
            for at, events in self._first(demand, self._fit):
                starts.append(Start(at, demand.name, demand.routes[0].endpoint, events, demand.takes))
                answered[demand.name] = at + demand.takes
        return Course(sorted(starts), self.left, answered)

    def of_course(self, course: Course) -> EventsBound:
        """Return the bound on the end of the events that are answered in a course."""
        late = self._late
        return self.of_events({one.name: one.events + late[one.name] - course.left[one.name] for one in self._demands})

    def of_events(self, done: Mapping[str, int]) -> EventsBound:
        """Return the bound on the end of that many events of each type, which must not exceed what fits."""
        return EventsBound([(demand, *group) for demand in self._demands for group in self._first(demand, done)])

    def _first(self, demand: Demand, done: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        """Yield (moment, events): the earliest beginnings of the first `done` events of a type."""
        lacking = done[demand.name]
        for at, slots in self._openings.get(demand.name, ()):
            if lacking <= 0:
                return
            yield at, min(slots, lacking)
            lacking -= slots


class EventsBound:
    """The soonest possible end of a set of events, by the number of lanes."""

    def __init__(self, soonest: list[tuple[Demand, int, int]]) -> None:
        latest_first = sorted(((at, events * demand.takes) for demand, at, events in soonest), reverse=True)
        work_from = itertools.accumulate(work for _, work in latest_first)
        self._work_from = [(at, work) for (at, _), work in zip(latest_first, work_from, strict=True)]
        #: The soonest end with a lane for every event.
        self.unlimited = max((at + demand.takes for demand, at, _ in soonest), default=0)

    def end(self, lanes: int) -> int:
        """Return the earliest possible time of the last answer, in ticks."""
        if not lanes:
            return NEVER if self._work_from else 0
        return max([self.unlimited, *[at - -work // lanes for at, work in self._work_from]])


def _openings(demand: Demand, situation: Situation) -> Sequence[tuple[int, int]]:
    """Return (moment, slots) of each opening for a type alone, in ascending order."""
    opening: Counter[int] = Counter()
    of_budget: dict[str, Counter[int]] = defaultdict(Counter)
    latest = max(route.latest for route in demand.routes)
    for route in demand.routes:
        into = opening if route.budget is None else of_budget[route.budget]
        for at, slots in situation.windows[route.endpoint].openings(route.latest):
            into[at] += slots
    for budget, own in of_budget.items():
        opening.update(_capped(own, Counter(dict(situation.windows[budget].openings(latest)))))
    return sorted(opening.items())


def _capped(own: Counter[int], budget: Counter[int]) -> Counter[int]:
    """Return the openings that both allow, from the cumulative sums of each."""
    opening: Counter[int] = Counter()
    sum_own = sum_budget = 0
    for at in sorted({*own, *budget}):
        before = min(sum_own, sum_budget)
        sum_own += own[at]
        sum_budget += budget[at]
        opening[at] = min(sum_own, sum_budget) - before
    return +opening
