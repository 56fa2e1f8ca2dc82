"""What a simulation starts from: demands with the ways they may take, gates, calls under way. Times in ticks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rlm.core.endpoint import all_limited
from rlm.core.expected import Expected
from rlm.plan.gate import Gate, duration, ticks
from rlm.plan.values import Progress, Window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from rlm.core.endpoint import Endpoint, EventType
    from rlm.plan.values import Horizon, Underway

#: Where a run is under way, slots that come back within this part of the guard are taken together, by the latest.
GRAINS_OF_GUARD: Final = 10

#: Above so many endpoints and budgets not all is looked at that more workers or endpoints would change.
MANY_ENDPOINTS: Final = 1000

_FRESH = Window()


@dataclass(frozen=True, slots=True)
class Route:
    """A way for a type's events: the gate and its budget, what a call takes, the last moment at which one is begun.

    `error_rate` is the part of the calls that fails.
    """

    gate: str
    budget: str | None
    takes: int
    latest: int
    error_rate: float


@dataclass(frozen=True, slots=True)
class Demand:
    """A type's events that wait, and the routes they may go, the primary's first. `takes` is the shortest of a call.

    `begun` of its events have been begun already, and `share` is the part of all begun ones that is to be its own.
    `one_more` is what another overflow endpoint would be.
    """

    name: str
    events: int
    routes: tuple[Route, ...]
    takes: int
    share: float
    begun: int
    one_more: Endpoint

    @property
    def gates(self) -> set[str]:
        """The names of its endpoints and of their budgets."""
        return {name for route in self.routes for name in (route.gate, route.budget) if name is not None}


@dataclass(frozen=True, slots=True)
class Busy:
    """A lane with a call under way, and when that is answered. `type` is None where it is not expected to be done then.

    That is a call to a suspect endpoint: its event is counted among those that wait.
    """

    type: str | None
    answered_at: int


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a simulation starts from but the number of lanes.

    Demands are by priority, high to low; `gates` are those of endpoints and of budgets, by name. A lane needs a
    `turnaround` between two calls. A call that failed is tried again after a `backoff`, doubled with each attempt, of
    which there are `max_attempts`. Where a run is `under_way` lanes may be `busy`. Moments count from the one planned
    for, at which the run had `gone` on for so long.
    """

    demands: tuple[Demand, ...]
    gates: Mapping[str, Gate]
    deadline: int
    guard_seconds: float
    turnaround: int = 0
    max_attempts: int = 1
    backoff: int = 0
    under_way: bool = False
    busy: tuple[Busy, ...] = ()
    gone: int = 0

    @classmethod
    def of(
        cls,
        backlog: Mapping[str, int],
        types: Sequence[EventType],
        windows: Mapping[str, Window],
        horizon: Horizon,
        turnaround_seconds: float = 0.0,
        expected: Mapping[tuple[str, str], Expected] | None = None,
        progress: Progress | None = None,
    ) -> Situation:
        """Bring a plan's input into ticks."""
        known, so_far = expected or {}, progress or Progress()
        suspects = {name for name, window in windows.items() if window.suspect}
        back = Counter(call.type for call in so_far.underway if call.endpoint in suspects)
        demands = []
        for kind in types:
            routes = _routes(kind, ticks(horizon.deadline_seconds), known)
            takes = min(route.takes for route in routes)
            events = backlog.get(kind.name, 0) + back[kind.name]
            begun = max(0, so_far.begun.get(kind.name, 0) - back[kind.name])
            one_more = kind.one_more(f"one more for {kind.name}")
            demands.append(Demand(kind.name, events, routes, takes, kind.share, begun, one_more))
        return cls(
            tuple(demands),
            _gates(types, windows, horizon, under_way=progress is not None),
            ticks(horizon.deadline_seconds),
            horizon.guard_seconds,
            ticks(turnaround_seconds),
            horizon.max_attempts,
            ticks(horizon.backoff_seconds),
            progress is not None,
            tuple(_busy(types, demands, so_far.underway, suspects)),
            ticks(horizon.gone_seconds),
        )

    @property
    def events(self) -> int:
        """Events that wait."""
        return sum(demand.events for demand in self.demands)

    @property
    def must_be_quick(self) -> bool:
        """Tell whether there is time for the most necessary only: so many endpoints, or planned again and again."""
        return self.under_way or len(self.gates) > MANY_ENDPOINTS

    @property
    def separable(self) -> bool:
        """Tell whether types have nothing to do with each other but the lanes, and no call is expected to fail."""
        gates = [name for demand in self.demands for name in demand.gates]
        return len(set(gates)) == len(gates) and not any(
            route.error_rate for demand in self.demands for route in demand.routes
        )

    def without_budgets(self) -> Situation:
        """Return the situation as it would be if no endpoint had a budget."""
        return replace(
            self,
            demands=tuple(
                replace(demand, routes=tuple(replace(route, budget=None) for route in demand.routes))
                for demand in self.demands
            ),
        )

    def with_more(self, names: Sequence[str], number: int) -> Situation:
        """Return the situation with so many more fresh overflow endpoints for each of the types named.

        They are what `EventType.one_more` says, and their calls are like those to the type's last.
        """
        gates = dict(self.gates)
        demands = []
        for demand in self.demands:
            routes = list(demand.routes)
            fresh = Gate.of(demand.one_more, _FRESH, self.guard_seconds)
            for more in range(1, number + 1) if demand.name in names else ():
                routes.append(
                    replace(routes[-1], gate=f"{more} more for {demand.name}", budget=_budget(demand.one_more))
                )
                gates[routes[-1].gate] = fresh
            demands.append(replace(demand, routes=tuple(routes)))
        return replace(self, demands=tuple(demands), gates=gates)


def _routes(kind: EventType, deadline: int, expected: Mapping[tuple[str, str], Expected]) -> tuple[Route, ...]:
    usual = Expected(kind.processing_seconds, kind.processing_seconds)
    routes = []
    for each in kind.endpoints:
        found = expected.get((kind.name, each.name), usual)
        takes = duration(found.seconds)
        latest = deadline - max(takes, ticks(found.needed_seconds))
        routes.append(Route(each.name, _budget(each), takes, latest, found.error_rate))
    return tuple(routes)


def _budget(endpoint: Endpoint) -> str | None:
    return endpoint.budget.name if endpoint.budget else None


def _gates(
    types: Sequence[EventType], windows: Mapping[str, Window], horizon: Horizon, *, under_way: bool
) -> dict[str, Gate]:
    guard = horizon.guard_seconds
    grain = max(1, ticks(guard) // GRAINS_OF_GUARD) if under_way else 1
    limited = all_limited(each for kind in types for each in kind.endpoints)
    return {one.name: Gate.of(one, windows.get(one.name, _FRESH), guard, grain) for one in limited}


def _busy(
    types: Sequence[EventType], demands: Sequence[Demand], calls: Sequence[Underway], suspects: Collection[str]
) -> Iterator[Busy]:
    """Expect an answer when it is due; one that is overdue, to be so for as long again, but no longer than may be."""
    if not calls:
        return
    takes = {(demand.name, route.gate): route.takes for demand in demands for route in demand.routes}
    may_take = {(kind.name, each.name): ticks(each.timeout_seconds) for kind in types for each in kind.endpoints}
    for call in calls:
        usual = takes.get((call.type, call.endpoint))
        if usual is not None:
            age = ticks(call.age_seconds)
            due = usual - age
            if due < 0:
                due = min(-due, may_take[call.type, call.endpoint] - age)
            yield Busy(None if call.endpoint in suspects else call.type, max(1, due))
