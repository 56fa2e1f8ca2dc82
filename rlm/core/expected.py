"""What was measured of calls, and what is to be expected of the next ones by it. Pure.

Two things are measured for each type at each endpoint: how long completed calls took, and how many calls failed for the
moment. A call that was throttled or rejected is neither: it says something of the limit, or of the event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rlm.core.endpoint import ANSWER_SLACK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rlm.core.endpoint import EventType

#: What was measured is used from this many calls on; below, the configured time is.
MEASURED_CALLS = 20
#: In the open run the newest calls decide alone from this many completed calls on.
MEASURED_NOW = 5
#: Durations kept of earlier runs, and those of the open run that decide.
KEPT_DURATIONS = 200
NEWEST_DURATIONS = 10
#: So many calls in a row, each this many times slower or faster than was expected, are a change. A single one is not.
CHANGED_CALLS = 2
CHANGED_TIMES = 2.0
#: Where more calls fail than this part, how many is no longer planned with: the endpoint is about to be rested.
HIGHEST_ERROR_RATE = 0.5

#: A type and an endpoint, by name.
Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What calls of one type to one endpoint are like, as measured.

    A call takes `seconds` (the median); one is begun where `needed_seconds` are left before the deadline (nearly all
    take no longer); `error_rate` is the part of them that fails and is tried again.
    """

    seconds: float
    needed_seconds: float
    error_rate: float = 0.0


class Completed(NamedTuple):
    """A completed call, and the milliseconds from when it was sent to its answer.

    `waited_ms` are those from its event's claim to its slot; `idle_ms` those from its lane's last answer to when it was
    sent, 0 where it had none; `at_us` is when its answer was written, microseconds of
    Redis time, and `age_ms` are from when its event was taken to its answer; both are 0 where that is not known.
    """

    type: str
    endpoint: str
    milliseconds: float
    waited_ms: float = 0.0
    at_us: int = 0
    age_ms: float = 0.0
    idle_ms: float = 0.0

    @property
    def pair(self) -> Pair:
        """Its type and its endpoint."""
        return self.type, self.endpoint


@dataclass(frozen=True, slots=True)
class Measured:
    """What is kept of one type's calls to one endpoint: the newest durations, oldest first, and how many failed.

    `completed` and `errors` count calls, those of a run half as much with each run that follows.
    """

    milliseconds: tuple[float, ...] = ()
    completed: float = 0.0
    errors: float = 0.0

    def merge(self, milliseconds: Sequence[float], errors: int) -> Measured:
        """Return what is kept after a run with these calls."""
        return Measured(
            (*self.milliseconds, *milliseconds)[-KEPT_DURATIONS:],
            round(self.completed / 2 + len(milliseconds), 3),
            round(self.errors / 2 + errors, 3),
        )


def merge_run(
    kept: Mapping[Pair, Measured], completed: Iterable[Completed], failing: Mapping[Pair, int]
) -> dict[Pair, Measured]:
    """Return what is kept from now on of each type and endpoint that a run called."""
    durations: dict[Pair, list[float]] = {pair: [] for pair in failing}
    for call in completed:
        durations.setdefault(call.pair, []).append(call.milliseconds)
    return {
        pair: kept.get(pair, Measured()).merge(milliseconds, failing.get(pair, 0))
        for pair, milliseconds in durations.items()
    }


def expect(event_type: EventType, kept: Measured) -> Expected | None:
    """Return what is to be expected by what is kept; None where that is too little to go by.

    Where only failures are known well enough, the times are the configured ones.
    """
    known = len(kept.milliseconds) + kept.errors
    if known < MEASURED_CALLS:
        return None
    rate = _error_rate(kept.completed, kept.errors)
    if len(kept.milliseconds) < MEASURED_CALLS:
        return Expected(event_type.processing_seconds, event_type.processing_seconds, rate)
    ascending = sorted(kept.milliseconds)
    return Expected(quantile(ascending, 0.50) / 1000, quantile(ascending, 0.95) / 1000, rate)


def _error_rate(completed: float, errors: float) -> float:
    return min(HIGHEST_ERROR_RATE, errors / (completed + errors)) if errors else 0.0


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the ascending values lie (nearest rank), 0 without any."""
    return ascending[math.ceil(share * len(ascending)) - 1] if ascending else 0


class Following:
    """Follows the calls of one type to one endpoint in the open run, call by call.

    What is kept of earlier runs is expected until the run itself has completed enough calls, or until some in a row
    are so much slower or faster that they tell of a change; from then on its newest calls decide.
    """

    def __init__(self, event_type: EventType, kept: Measured) -> None:
        self._type = event_type
        self._kept = kept
        self._usual = expect(event_type, kept)
        self._newest: list[float] = []
        self._completed = self._errors = 0
        self._changed = False

    def complete(self, milliseconds: float) -> None:
        """Note a completed call."""
        self._completed += 1
        self._newest = [*self._newest, milliseconds / 1000][-NEWEST_DURATIONS:]
        earlier, last = self._newest[:-CHANGED_CALLS], self._newest[-CHANGED_CALLS:]
        before = _median(earlier) if earlier and self._decides else self._usual_seconds
        if len(last) == CHANGED_CALLS and (min(last) > CHANGED_TIMES * before or max(last) < before / CHANGED_TIMES):
            self._newest = last
            self._changed = True

    def fail(self, errors: int) -> None:
        """Note how many calls of the run have failed for the moment so far."""
        self._errors = errors

    @property
    def expected(self) -> Expected | None:
        """What is to be expected of the next call; None where nothing better is known than the configured time.

        A single slow one among the newest calls changes nothing: `needed_seconds` are those of the slowest but one, and
        no less than in earlier runs as long as nothing tells of a change.
        """
        usual, rate = self._usual, self._rate
        if self._decides:
            needed = sorted(self._newest)[-2]
            if usual and not self._changed:
                needed = max(needed, usual.needed_seconds)
            return Expected(_median(self._newest), needed, rate)
        if usual is None and not rate:
            return None
        seconds = self._type.processing_seconds
        return Expected(usual.seconds, usual.needed_seconds, rate) if usual else Expected(seconds, seconds, rate)

    @property
    def _decides(self) -> bool:
        return self._changed or self._completed >= MEASURED_NOW

    @property
    def _usual_seconds(self) -> float:
        return self._usual.seconds if self._usual else self._type.processing_seconds

    @property
    def _rate(self) -> float:
        """The part that fails, of this run's calls alone once there are enough, else with those of earlier runs."""
        if self._completed + self._errors >= MEASURED_CALLS:
            return _error_rate(self._completed, self._errors)
        if len(self._kept.milliseconds) + self._kept.errors + self._completed + self._errors < MEASURED_CALLS:
            return 0.0
        return _error_rate(self._kept.completed + self._completed, self._kept.errors + self._errors)


def _median(values: Sequence[float]) -> float:
    return quantile(sorted(values), 0.50)


def call_seconds(event_type: EventType, endpoint: str, expected: Mapping[Pair, Expected]) -> float:
    """Return how long a call of a type to an endpoint is expected to take: as measured, else as configured."""
    found = expected.get((event_type.name, endpoint))
    return found.seconds if found else event_type.processing_seconds


def needed_seconds(event_type: EventType, endpoint: str, expected: Mapping[Pair, Expected]) -> float:
    """Return what must be left before the deadline for a call of a type to an endpoint to be begun, seconds.

    Who plans, who releases and who calls all go by this.
    """
    found = expected.get((event_type.name, endpoint))
    return (found.needed_seconds if found else event_type.processing_seconds) + ANSWER_SLACK_SECONDS
