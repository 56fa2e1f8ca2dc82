"""What the waiting events of a run wait for, and for how long in total. Pure.

The conductor looks once a second. Each look finds, by type, what stands between a waiting event and its call, and adds
the time since the previous look to that. At the end these times explain the leftovers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec

from rlm.core.endpoint import Endpoint, EventType
from rlm.core.expected import Expected, Pair, call_seconds, needed_seconds
from rlm.core.trail import Counts
from rlm.core.window import Circuit, WindowState, circuit_of

#: If a look comes so many seconds late, Redis kept the conductor from it; what opens so late was held up.
GAP_SECONDS: Final = 2.0
#: If Redis takes longer for an answer, seconds, it is what a run that has not begun waits for, and what lanes wait for
#: while there are slots and events: busy ones if it takes at least this share of their calls.
SLOW_SECONDS: Final = 0.05
SLOW_SHARE: Final = 0.5
#: Known reasons why no worker is ready: the running workers claim nothing of this run, nobody starts workers, or those
#: there sleep because they can connect to no endpoint.
ANOTHER_CONFIGURATION: Final = "another configuration"
NO_SUPERVISOR: Final = "no supervisor"
NO_CONNECTION: Final = "no connection"


class Obstacle(StrEnum):
    """What keeps a waiting event from being sent."""

    START = "start"  # the run has not made its first call: it drains, plans, and its workers start
    WORKERS = "workers"  # no worker is ready, or the ready ones have another configuration
    LANES = "lanes"  # a slot is free, but every lane is busy
    LIMIT = "limit"  # the windows of its endpoints are full
    BUDGET = "budget"  # the window of a budget is full
    PAUSED = "paused"  # an operator paused its endpoints
    RESTING = "resting"  # its endpoints failed or asked for a rest, or are being probed
    HELD = "held"  # their windows cannot be trusted
    REDIS = "redis"  # Redis is away or slow, or not fit to record calls
    CONDUCTOR = "conductor"  # the tick has come, but nobody conducts
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


class Look(msgspec.Struct, frozen=True):
    """What the conductor of a run sees at one look.

    `counts` are by type, `windows` by the name of endpoint or budget, `expected` is what to expect of calls. `lanes`
    are those of all ready workers; `lack` is a known problem if there are none. `begun`: the run has made a call.
    `away`: Redis was away or not fit since the last look, or this one came late; it took `answer_seconds` to answer.
    """

    counts: Mapping[str, Counts]
    windows: Mapping[str, WindowState]
    lanes: int
    remaining_seconds: float
    expected: Mapping[Pair, Expected] = {}
    lack: Wait | None = None
    begun: bool = True
    away: bool = False
    answer_seconds: float = 0.0

    @property
    def busy(self) -> int:
        """The lanes that have a call."""
        return sum(count.inflight for count in self.counts.values())

    @property
    def is_slow(self) -> bool:
        """Whether Redis takes long to answer."""
        return self.answer_seconds > SLOW_SECONDS

    def usable(self, kind: EventType) -> list[Endpoint]:
        """Return the endpoints that would answer a call begun now before the deadline."""
        return [each for each in kind.endpoints if self._needs(kind, each) <= self.remaining_seconds]

    def wait_seconds(self, endpoint: Endpoint) -> float:
        """Return the seconds until the next slot of an endpoint and its budget; 0 if there is one now."""
        windows = [self.windows[limited.name] for limited in (endpoint, endpoint.budget) if limited is not None]
        return max(0.0 if window.free > 0 else window.wait_seconds for window in windows)

    def has_chance(self, kind: EventType) -> bool:
        """Return whether a call that waits for the next slot can still be answered before the deadline."""
        left = self.remaining_seconds
        return any(self.wait_seconds(each) + self._needs(kind, each) <= left for each in kind.endpoints)

    def stands_still(self, types: Sequence[EventType]) -> bool:
        """Return whether a waiting event has a slot and an idle lane, which should have taken it by now."""
        return self.busy < self.lanes and any(
            self.counts[kind.name].pending and any(self.wait_seconds(each) <= 0 for each in self.usable(kind))
            for kind in types
        )

    def can_send(self, types: Sequence[EventType]) -> bool:
        """Return whether an event may still be sent: a slot comes in time, or a call under way may fail in time."""
        for kind in types:
            count = self.counts[kind.name]
            if self.usable(kind) if count.inflight else count.open and self.has_chance(kind):
                return True
        return False

    def _needs(self, kind: EventType, endpoint: Endpoint) -> float:
        return needed_seconds(kind, endpoint.name, self.expected)


_SHUT: Final = {
    Circuit.HELD: Obstacle.HELD,
    Circuit.PAUSED: Obstacle.PAUSED,
    Circuit.RESTING: Obstacle.RESTING,
    Circuit.PROBING: Obstacle.RESTING,
}


def waits_of(look: Look, kind: EventType) -> dict[Wait, float]:
    """Return what a type's waiting events wait for, as fractions of 1; empty if none waits, or one is about to go.

    If all its endpoints are shut, each counts for its fraction, and missing workers do not count because they could
    call none.
    """
    usable = look.usable(kind)
    if not look.counts[kind.name].pending or not usable:
        return {}
    has_slot = any(look.wait_seconds(endpoint) <= 0 for endpoint in usable)
    if not has_slot and all(_shut_at(one, look.windows) for one in kind.endpoints):
        return _without_slot(look, kind)
    if not look.lanes:
        before = Obstacle.REDIS if look.is_slow else Obstacle.START
        return {look.lack or Wait(Obstacle.WORKERS if look.begun else before): 1.0}
    if not has_slot:
        return _without_slot(look, kind)
    is_busy = look.busy >= look.lanes
    shortest = min(call_seconds(kind, each.name, look.expected) for each in usable)
    if look.is_slow and (not is_busy or look.answer_seconds > SLOW_SHARE * shortest):
        return {Wait(Obstacle.REDIS): 1.0}
    return {Wait(Obstacle.LANES): 1.0} if is_busy else {}


def _without_slot(look: Look, kind: EventType) -> dict[Wait, float]:
    """Return why no endpoint of a type has a slot, as fractions of 1."""
    return _parts([_shut_at(one, look.windows) or _full_at(one, look.windows) for one in kind.endpoints])


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


def _parts(waits: Sequence[Wait]) -> dict[Wait, float]:
    return {wait: number / len(waits) for wait, number in Counter(waits).items()}


def _in_words(waits: Mapping[Wait, float]) -> dict[str, float]:
    return {str(one): round(seconds, 3) for one, seconds in waits.items()}


@dataclass(slots=True)
class Waits:
    """How many seconds the events of each type waited for what, up to `until` (seconds since 1970)."""

    until: float
    by_type: dict[str, dict[Wait, float]] = field(default_factory=dict)

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
        self, late: Mapping[str, float], look: Look, types: Sequence[EventType], full: Collection[str]
    ) -> None:
        """Count the time from the tick to the opening of the run for what was waited for then.

        `late` has seconds by obstacle; `full` has the endpoints and budgets whose windows were full most of that time.
        """
        for kind in types:
            if look.counts[kind.name].pending:
                for obstacle, seconds in late.items():
                    self._put(kind.name, _before_opening(kind, look.windows, full, Obstacle(obstacle)), seconds)

    def look(self, now: float, look: Look, types: Sequence[EventType]) -> None:
        """Add the time since the last look to what each type waits for. Lanes go on without a conductor."""
        seconds, self.until = max(0.0, now - self.until), max(now, self.until)
        for kind in types:
            if look.counts[kind.name].pending:
                found = {Wait(Obstacle.REDIS): 1.0} if look.away else waits_of(look, kind)
                self._put(kind.name, found, seconds)

    def at_end(self, look: Look, types: Sequence[EventType]) -> Waits:
        """Return the waits as they are if the run ends now: a lane may close it before the next look.

        A type for which no slot comes before the deadline has waited for it the rest of the window.
        """
        ended = Waits(self.until, {name: dict(waits) for name, waits in self.by_type.items()})
        for kind in types:
            if look.counts[kind.name].pending and look.usable(kind) and not look.has_chance(kind):
                ended._put(kind.name, _without_slot(look, kind), max(0.0, look.remaining_seconds))
        return ended

    def _put(self, name: str, found: Mapping[Wait, float], seconds: float) -> None:
        waits = self.by_type.setdefault(name, {})
        for wait, part in found.items():
            waits[wait] = waits.get(wait, 0.0) + part * seconds
