"""The events of one type in a simulation: those that wait, and those that failed and are on their way back.

A call is begun only if it can be answered by the deadline. Slots go in the order of
`rlm.core.endpoint.in_order_of_use`, and events that failed before go first.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from rlm.core.retry import backoff
from rlm.plan.course import Start
from rlm.plan.division import divide
from rlm.plan.gate import NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.plan.gate import Gate
    from rlm.plan.lanes import Lanes
    from rlm.plan.situation import Demand, Route, Situation


class Queue:
    """What waits of one type. `answered` is when the last of it is, 0 if none.

    `begun` counts the events begun, those of earlier plans included, `failed` those that failed in every attempt.
    """

    __slots__ = (
        "_attempts",
        "_backoff",
        "_budgets",
        "_coming",
        "_failing",
        "_gates",
        "_late",
        "_routes",
        "_until",
        "_waiting",
        "_ways",
        "answered",
        "begun",
        "demand",
        "failed",
    )

    def __init__(self, demand: Demand, situation: Situation, gates: Mapping[str, Gate]) -> None:
        answers = [busy.answered_at for busy in situation.busy if busy.type == demand.name]
        self.demand = demand
        self.begun = demand.begun
        self.failed = 0
        self.answered = max((at for at in answers if at <= situation.deadline), default=0)
        self._late = sum(at > situation.deadline for at in answers)
        self._gates = gates
        self._attempts = situation.max_attempts
        self._backoff = situation.backoff
        #: By the attempts made before: events that wait, and what part of a call that fails is owed. Rounded to the
        #: nearest in first attempts, but down in later ones: else half an event that fails would fail in all of them.
        self._waiting = [demand.events] + [0] * (situation.max_attempts - 1)
        self._failing = [0.5] + [0.0] * (situation.max_attempts - 1)
        #: When so many events are back from an attempt.
        self._coming: list[tuple[int, int, int]] = []
        #: The ways that are still open, made out when it is first served, and when the next of them is shut for good.
        self._routes: Sequence[Route] = demand.routes
        self._ways: list[tuple[Route, Gate, Gate | None]] = []
        self._until = [-1]

    @property
    def left(self) -> int:
        """Events that are not answered."""
        return sum(self._waiting) + self._late + self.failed + sum(events for _, _, events in self._coming)

    def serve(self, at: int, most: int, starts: list[Start], lanes: Lanes) -> None:
        """Begin what slots allow at `at`, on so many idle lanes at the most."""
        self._look(at)
        wanted = min(most, sum(self._waiting))
        if wanted <= 0 or not self._ways:
            return
        for (route, gate, budget), number in zip(self._ways, self._divide(at, wanted), strict=True):
            if number:
                gate.take(at, number)
                if budget is not None:
                    budget.take(at, number)
                starts.append(Start(at, self.demand.name, route.gate, number, route.takes))
                lanes.begin(at + route.takes, number)
                self._begin(at + route.takes, route, number)

    def wakes_at(self, at: int) -> int | None:
        """Return when it can use a lane again that it cannot use at `at`, never later than that is; None if never."""
        if not any(self._waiting):
            at = self._coming[0][0] if self._coming else NEVER
        opens = min(
            [max(gate.opens, budget.opens) if budget else gate.opens for _, gate, budget in self._ways], default=NEVER
        )
        wakes_at = max(at, opens)
        return wakes_at if wakes_at <= max(self._until, default=0) else None

    def _look(self, at: int) -> None:
        """Give up the routes that no call can go any more; take in what is back after it failed."""
        if self._until and at > self._until[0]:
            self._go_by([route for route in self._routes if route.latest >= at])
        while self._coming and self._coming[0][0] <= at:
            _, attempt, events = heapq.heappop(self._coming)
            self._waiting[attempt] += events
            self.begun -= events

    def _go_by(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._ways = [
            (route, self._gates[route.gate], None if route.budget is None else self._gates[route.budget])
            for route in routes
        ]
        self._budgets = [route.budget for route in routes]
        self._until = sorted({route.latest for route in routes})

    def _divide(self, at: int, wanted: int) -> list[int]:
        free = [gate.free(at) if gate.opens <= at else 0 for _, gate, _ in self._ways]
        free_in = {name: self._gates[name].free(at) for name in self._budgets if name is not None}
        return divide(wanted, free, self._budgets, free_in)

    def _begin(self, answered_at: int, route: Route, number: int) -> None:
        self.begun += number
        answered = number
        for attempt in reversed(range(self._attempts)):
            begun = min(number, self._waiting[attempt])
            if begun:
                number -= begun
                self._waiting[attempt] -= begun
                answered -= self._fail(answered_at, route, attempt, begun) if route.error_rate else 0
        if answered:
            self.answered = max(self.answered, answered_at)

    def _fail(self, at: int, route: Route, attempt: int, calls: int) -> int:
        """Let the part of the calls fail that is to be expected, over all groups together; return how many do."""
        owed = self._failing[attempt] + calls * route.error_rate
        failed = math.floor(owed)
        self._failing[attempt] = owed - failed
        if attempt + 1 == self._attempts:
            self.failed += failed
        elif failed:
            heapq.heappush(self._coming, (at + (backoff(self._backoff, attempt + 1)), attempt + 1, failed))
        return failed
