"""What the waiting events of a run wait for, and for how long in total. Pure.

The conductor looks several times a second. Each look finds, by type, what stands between a waiting event and its call,
and adds the time since the previous look to that. At the end these times explain the leftovers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rlm.core.window import Circuit, WindowState, circuit_of

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint, EventType
    from rlm.plan.choose_releases import ReleaseState

#: Seconds between two looks above which nobody conducted in between. A distant Redis makes every look slow; then the
#: limit is this many times the shortest distance between two looks of this conductor.
GAP_SECONDS: Final = 2.0
GAP_LOOKS: Final = 3
#: Known reasons why no worker is ready: the running workers claim nothing of this run, or nobody starts workers.
ANOTHER_CONFIGURATION: Final = "another configuration"
NO_SUPERVISOR: Final = "no supervisor"


class Obstacle(StrEnum):
    """What keeps a waiting event from being sent."""

    START = "start"  # the run has not made its first call: it drains, plans, and its workers start
    WORKERS = "workers"  # no worker is ready, or the ready ones have another configuration
    SILENT = "silent"  # no worker took the released calls in time, though some count as ready
    LANES = "lanes"  # a slot is free, but every lane is busy, or kept for more urgent types
    LIMIT = "limit"  # the windows of its endpoints are full
    BUDGET = "budget"  # the window of a budget is full
    PAUSED = "paused"  # an operator paused its endpoints
    RESTING = "resting"  # its endpoints failed or asked for a rest, or are being probed
    HELD = "held"  # their windows cannot be trusted
    REDIS = "redis"  # Redis is away, or not fit to record calls
    CONDUCTOR = "conductor"  # nobody conducts
    RUN_BEFORE = "run_before"  # the tick has come, but the previous run is still open


class Wait(msgspec.Struct, frozen=True):
    """What an event waits for. `name` is the endpoint, the budget, or what is wrong with the workers; empty if none."""

    obstacle: Obstacle
    name: str = ""

    @classmethod
    def read(cls, text: str) -> Wait:
        """Return the wait that `str` wrote."""
        obstacle, _, name = text.partition(" ")
        return cls(Obstacle(obstacle), name)

    def __str__(self) -> str:
        return f"{self.obstacle} {self.name}".rstrip()


_SHUT: Final = {
    Circuit.HELD: Obstacle.HELD,
    Circuit.PAUSED: Obstacle.PAUSED,
    Circuit.RESTING: Obstacle.RESTING,
    Circuit.PROBING: Obstacle.RESTING,
}


def waits_of(state: ReleaseState, kind: EventType, *, begun: bool) -> dict[Wait, float]:
    """Return what a type's waiting events wait for, as fractions of 1; empty if none waits, or one is about to go.

    If all its endpoints are shut, each counts for its fraction, and missing workers do not count because they could
    call none. `begun`: the run has made a call.
    """
    usable = state.usable(kind)
    if not _waiting(state, kind) or not usable:
        return {}
    has_slot = any(state.wait_seconds(endpoint) <= 0 for endpoint in usable)
    if not has_slot and all(_shut_at(one, state.windows) for one in kind.endpoints):
        return _without_slot(state, kind)
    if state.lack and (has_slot or not state.lanes):
        return {state.lack: 1.0}
    if not state.lanes:
        return {Wait(Obstacle.WORKERS if begun else Obstacle.START): 1.0}
    if has_slot:
        busy = sum(count.released + count.inflight for count in state.counts.values())
        return {Wait(Obstacle.LANES): 1.0} if busy >= state.lanes - sum(state.kept.values()) else {}
    return _without_slot(state, kind)


def _waiting(state: ReleaseState, kind: EventType) -> int:
    """Return how many events of a type wait. Events with released calls wait as well if no worker takes such calls."""
    counts = state.counts[kind.name]
    return counts.pending + (counts.released if state.lack == Wait(Obstacle.SILENT) else 0)


def _without_slot(state: ReleaseState, kind: EventType) -> dict[Wait, float]:
    """Return why no endpoint of a type has a slot, as fractions of 1."""
    return _parts([_shut_at(one, state.windows) or _full_at(one, state.windows) for one in kind.endpoints])


def _full_at(endpoint: Endpoint, windows: Mapping[str, WindowState]) -> Wait:
    """Return which window is full, that of an endpoint or that of its budget."""
    window, budget = windows[endpoint.name], windows[endpoint.budget.name] if endpoint.budget else None
    if endpoint.budget and budget and budget.free <= 0 and budget.wait_seconds >= window.wait_seconds:
        return Wait(Obstacle.BUDGET, endpoint.budget.name)
    return Wait(Obstacle.LIMIT)


def _shut_at(endpoint: Endpoint, windows: Mapping[str, WindowState]) -> Wait | None:
    """Return why an endpoint or its budget is shut regardless of free slots; None if it is not."""
    for limited in (endpoint, endpoint.budget):
        if limited is not None and (circuit := circuit_of(windows[limited.name])) in _SHUT:
            return Wait(_SHUT[circuit], limited.name)
    return None


def _before_opening(
    kind: EventType, windows: Mapping[str, WindowState], full: Collection[str], late: Obstacle
) -> dict[Wait, float]:
    """Return what kept the events of a type from being sent before their run opened, as fractions of 1.

    `full` names the endpoints and budgets whose windows were full then. The obstacle is `late` only if some endpoint
    could have been called.
    """
    found: list[Wait] = []
    for endpoint in kind.endpoints:
        wait = _shut_at(endpoint, windows)
        if wait is None and endpoint.budget is not None and endpoint.budget.name in full:
            wait = Wait(Obstacle.BUDGET, endpoint.budget.name)
        elif wait is None and endpoint.name in full:
            wait = Wait(Obstacle.LIMIT)
        if wait is None:
            return {Wait(late): 1.0}
        found.append(wait)
    return _parts(found)


def _nobody(*, begun: bool) -> dict[Wait, float]:
    return {Wait(Obstacle.CONDUCTOR if begun else Obstacle.START): 1.0}


def _parts(waits: Sequence[Wait]) -> dict[Wait, float]:
    return {wait: number / len(waits) for wait, number in Counter(waits).items()}


def _in_words(waits: Mapping[Wait, float]) -> dict[str, float]:
    return {str(one): round(seconds, 3) for one, seconds in waits.items()}


@dataclass(slots=True)
class Waits:
    """How many seconds the events of each type waited for what, up to `until` (seconds since 1970)."""

    until: float
    by_type: dict[str, dict[Wait, float]] = field(default_factory=dict)
    _quickest: float = field(default=0.0, compare=False)

    @classmethod
    def read(cls, document: Mapping[str, Any] | None, began_at: float) -> Waits:
        """Read what `as_json` wrote. Without a document, nothing has been waited for since `began_at`."""
        if not document:
            return cls(began_at)
        by_type = {
            name: {Wait.read(text): seconds for text, seconds in waits.items()}
            for name, waits in document["by_type"].items()
        }
        return cls(document["until"], by_type)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON document for the run's hash."""
        return {"until": self.until, "by_type": {name: _in_words(waits) for name, waits in self.by_type.items()}}

    def open_late(
        self, late: Mapping[str, float], state: ReleaseState, types: Sequence[EventType], full: Collection[str]
    ) -> None:
        """Count the time from the tick to the opening of the run for what was waited for then.

        `late` has seconds by obstacle; `full` has the endpoints and budgets whose windows were full most of that time.
        """
        known = {Obstacle(one): seconds for one, seconds in late.items()}
        for kind in types:
            if state.counts[kind.name].pending:
                for obstacle, seconds in known.items():
                    self._put(kind.name, _before_opening(kind, state.windows, full, obstacle), seconds)

    def give_up(self, state: ReleaseState, types: Sequence[EventType]) -> None:
        """Count the rest of the window for what is waited for now, because no slot comes before the deadline."""
        for kind in types:
            if state.counts[kind.name].pending and state.usable(kind):
                self._put(kind.name, _without_slot(state, kind), max(0.0, state.remaining_seconds))

    def look(self, now: float, state: ReleaseState, types: Sequence[EventType], *, begun: bool, away: bool) -> None:
        """Add the time since the last look to what each type waits for. `away`: Redis was away or is unfit."""
        seconds, self.until = max(0.0, now - self.until), max(now, self.until)
        for kind in types:
            if not _waiting(state, kind):
                continue
            if away:
                found = {Wait(Obstacle.REDIS): 1.0}
            elif seconds > max(GAP_SECONDS, GAP_LOOKS * self._quickest):
                found = _nobody(begun=begun)
            else:
                found = waits_of(state, kind, begun=begun)
            self._put(kind.name, found, seconds)
        self._quickest = min(self._quickest or seconds, seconds)

    def stand_still(self, until: float, waiting: Iterable[str], *, begun: bool) -> None:
        """If the last look is long ago, count the time since then as time without a conductor for types `waiting`."""
        seconds, self.until = max(0.0, until - self.until), max(until, self.until)
        for name in waiting if seconds > GAP_SECONDS else ():
            self._put(name, _nobody(begun=begun), seconds)

    def _put(self, name: str, found: Mapping[Wait, float], seconds: float) -> None:
        waits = self.by_type.setdefault(name, {})
        for wait, part in found.items():
            waits[wait] = waits.get(wait, 0.0) + part * seconds
