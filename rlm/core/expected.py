"""Expected times: what was measured of calls, what to expect of the next ones, and the wait after a failure. Pure.

Two things are measured for each type at each endpoint: how long completed calls took, and how many calls failed
temporarily. Throttled and rejected calls do not count, because they depend on the limit or on the event.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from rlm.core.endpoint import ANSWER_SLACK_SECONDS, EventType

#: Measurements are used from this many calls on; below that, the configured time is used.
MEASURED_CALLS = 20
#: From this many completed calls on, only the open run's newest calls count.
MEASURED_NOW = 5
#: How many durations are kept of earlier runs, and of the open run.
KEPT_DURATIONS = 200
NEWEST_DURATIONS = 10
#: Plans assume no higher error rate, because with more failures the endpoint will soon be rested.
HIGHEST_ERROR_RATE = 0.5
#: Seconds a lane needs from an answer to its next call: it settles, and asks. Measured on two cores with 100 lanes.
TURNAROUND_SECONDS: Final = 0.008
#: Seconds from when a slot comes back until it is taken again, if events wait only for it: a lane wakes, and asks. So a
#: plan adds it to every period.
REFILL_SECONDS: Final = 0.003

#: Seconds between two calls of lanes that were idle, if there is work for many at once: each process has to be woken.
#: Measured: a hundred lanes in twenty processes begin within 0.12 s on two cores.
APART_SECONDS: Final = 0.0012

#: The name of a type and of an endpoint.
Pair: TypeAlias = tuple[str, str]
#: The shortest expected time of a call, seconds.
LEAST_SECONDS = 0.0001


class Expected(msgspec.Struct, frozen=True):
    """What to expect of calls of one type to one endpoint, as measured.

    A call takes `seconds` (the median). It begins only if `needed_seconds` are left before the deadline; nearly all
    calls take no longer. `error_rate` is the share of calls that fail and are tried again.
    """

    seconds: float
    needed_seconds: float
    error_rate: float = 0.0


class Completed(NamedTuple):
    """A completed call, with the milliseconds from its request to its answer.

    `at_us` is when its answer was written, microseconds of Redis time; `age_ms` is the time from taking its event to
    its answer. Both are 0 if unknown.
    """

    type: str
    endpoint: str
    milliseconds: float
    at_us: int = 0
    age_ms: float = 0.0

    @property
    def pair(self) -> Pair:
        """Its type and endpoint."""
        return self.type, self.endpoint


class Measured(msgspec.Struct, frozen=True):
    """What is kept of one type's calls to one endpoint: the newest durations, oldest first, and how many failed.

    `completed` and `errors` count calls; each later run halves the weight of earlier runs.
    """

    milliseconds: tuple[float, ...] = ()
    completed: float = 0.0
    errors: float = 0.0

    def merge(self, milliseconds: Sequence[float], errors: int) -> Measured:
        """Return what to keep after a run with these calls."""
        return Measured(
            (*self.milliseconds, *milliseconds)[-KEPT_DURATIONS:],
            round(self.completed / 2 + len(milliseconds), 3),
            round(self.errors / 2 + errors, 3),
        )


#: What is known of a type at an endpoint that was never called.
NOTHING: Final = Measured()


def merge_run(
    kept: Mapping[Pair, Measured], completed: Iterable[Completed], failing: Mapping[Pair, int]
) -> dict[Pair, Measured]:
    """Return what to keep after a run, for each type and endpoint that it called."""
    durations: dict[Pair, list[float]] = {pair: [] for pair in failing}
    for call in completed:
        durations.setdefault(call.pair, []).append(call.milliseconds)
    return {
        pair: kept.get(pair, Measured()).merge(milliseconds, failing.get(pair, 0))
        for pair, milliseconds in durations.items()
    }


def expect(event_type: EventType, kept: Measured, now: Measured = NOTHING) -> Expected | None:
    """Return what to expect of the next call, None if nothing better than the configured time is known.

    The newest durations of the open run, `now`, decide from `MEASURED_NOW` completed calls on, before that what is
    `kept` of earlier runs. One slow call changes nothing: `needed_seconds` is the second longest of the newest.
    """
    calls = len(kept.milliseconds) + kept.errors + now.completed + now.errors
    rate = _error_rate(kept.completed + now.completed, kept.errors + now.errors) if calls >= MEASURED_CALLS else 0.0
    if now.completed + now.errors >= MEASURED_CALLS:
        rate = _error_rate(now.completed, now.errors)
    if now.completed >= MEASURED_NOW:
        ascending = sorted(now.milliseconds)
        return Expected(quantile(ascending, 0.50) / 1000, ascending[-2] / 1000, rate)
    if len(kept.milliseconds) >= MEASURED_CALLS:
        ascending = sorted(kept.milliseconds)
        return Expected(quantile(ascending, 0.50) / 1000, quantile(ascending, 0.95) / 1000, rate)
    configured = event_type.processing_seconds
    return Expected(configured, configured, rate) if rate else None


def _error_rate(completed: float, errors: float) -> float:
    return min(HIGHEST_ERROR_RATE, errors / (completed + errors)) if errors else 0.0


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the ascending values lie (nearest rank), 0 without any."""
    return ascending[math.ceil(share * len(ascending)) - 1] if ascending else 0


def call_seconds(event_type: EventType, endpoint: str, expected: Mapping[Pair, Expected]) -> float:
    """Return the expected duration of a call of a type to an endpoint: as measured, else as configured.

    It is never zero. A measured duration may be, if the answer was there before RLM waited for it.
    """
    found = expected.get((event_type.name, endpoint))
    return max(LEAST_SECONDS, found.seconds if found else event_type.processing_seconds)


def needed_seconds(event_type: EventType, endpoint: str, expected: Mapping[Pair, Expected]) -> float:
    """Return the seconds that must be left before the deadline to begin a call; planner, release and lanes use it."""
    found = expected.get((event_type.name, endpoint))
    return (found.needed_seconds if found else event_type.processing_seconds) + ANSWER_SLACK_SECONDS


#: The wait after the first failed attempt, seconds. Each further failure doubles it.
FIRST_BACKOFF_SECONDS: Final = 0.5
#: Each wait is multiplied by a random factor in this range, so events that failed together do not return together.
JITTER: Final = (0.5, 1.5)


def backoff(first: int, failed: int) -> int:
    """Return the expected wait after `failed` attempts (1 or more), in the unit of the `first` wait."""
    return first << (failed - 1)


def backoff_seconds(failed: int) -> float:
    """Return how long an event waits after `failed` attempts (1 or more), with jitter."""
    return FIRST_BACKOFF_SECONDS * backoff(1, failed) * random.uniform(*JITTER)
