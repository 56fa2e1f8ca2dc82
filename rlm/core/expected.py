"""Expected times: the calls that were made, what they show of the next ones, and the wait after a failure. Pure.

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
from rlm.core.trail import CallEnd

#: Earlier runs count from this many calls on; the open run alone from `MEASURED_NOW` completed calls on, and of these
#: only the newest.
MEASURED_CALLS = 20
MEASURED_NOW, NEWEST_NOW = 5, 10
#: How many calls are kept of each type at each endpoint.
KEPT_CALLS = 100
#: Seconds a lane needs from an answer to its next call: it settles, and asks. Measured on two cores with 100 lanes.
TURNAROUND_SECONDS: Final = 0.008
#: Seconds from when a slot comes back until it is taken again, if events wait only for it: a lane wakes, and asks. So a
#: plan adds it to every period.
REFILL_SECONDS: Final = 0.003

#: Seconds between two calls if there is work for many lanes at once: Redis answers one turn after the other.
APART_SECONDS: Final = 0.0003

#: The name of a type and of an endpoint.
Pair: TypeAlias = tuple[str, str]


class Expected(msgspec.Struct, frozen=True):
    """What to expect of calls of one type to one endpoint, as measured.

    A call takes `seconds` (the median). It begins only if `needed_seconds` are left before the deadline; nearly all
    calls take no longer. `error_rate` is the share of calls that fail and are tried again.
    """

    seconds: float
    needed_seconds: float
    error_rate: float = 0.0


class CallEntry(msgspec.Struct, frozen=True):
    """A call that was sent, by its event's claim number `claims`.

    `sent_us` is when it was sent, microseconds of Redis time; the others are milliseconds: from its request to its
    end, and from taking its event to its end. `window_id` is the endpoint's.
    """

    run_id: str
    type: str
    endpoint: str
    window_id: str
    sent_us: int
    end: CallEnd
    milliseconds: float
    age_ms: float
    event_id: str
    claims: int

    @property
    def ended_us(self) -> int:
        """When it ended, microseconds of Redis time; right even if that clock was set meanwhile."""
        return self.sent_us + round(self.milliseconds * 1000)


def completed(calls: Sequence[CallEntry]) -> list[CallEntry]:
    """Return the calls that have completed their events."""
    return [call for call in calls if call.end is CallEnd.COMPLETED]


class Outcome(NamedTuple):
    """How a call of a run ended: completed after so many seconds, or failed (None)."""

    run_id: str
    seconds: float | None


def expect(event_type: EventType, outcomes: Iterable[Outcome], run_id: str = "") -> Expected | None:
    """Return what to expect of the next call, None if nothing better than the configured time is known.

    `outcomes` are those of the newest calls of the type to an endpoint, oldest first. The open run decides from
    `MEASURED_NOW` completed calls on. One slow call changes nothing: `needed_seconds` is the second longest of its
    newest.
    """
    calls = list(outcomes)
    now = [call for call in calls if call.run_id == run_id]
    counted = now if len(now) >= MEASURED_CALLS else calls
    errors = sum(call.seconds is None for call in counted)
    # No higher, because with more failures the endpoint will soon be rested.
    rate = min(0.5, errors / len(counted)) if len(counted) >= MEASURED_CALLS else 0.0
    if len(took := [call.seconds for call in now if call.seconds is not None][-NEWEST_NOW:]) >= MEASURED_NOW:
        return Expected(quantile(sorted(took), 0.50), sorted(took)[-2], rate)
    if len(took := sorted(call.seconds for call in calls if call.seconds is not None)) >= MEASURED_CALLS:
        return Expected(quantile(took, 0.50), quantile(took, 0.95), rate)
    configured = event_type.processing_seconds
    return Expected(configured, configured, rate) if rate else None


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the ascending values lie (nearest rank), 0 without any."""
    return ascending[math.ceil(share * len(ascending)) - 1] if ascending else 0


def call_seconds(event_type: EventType, endpoint: str, expected: Mapping[Pair, Expected]) -> float:
    """Return the expected duration of a call of a type to an endpoint: as measured, else as configured.

    It is never zero. A measured duration may be, if the answer was there before RLM waited for it.
    """
    measured = expected.get((event_type.name, endpoint))
    return max(0.0001, measured.seconds if measured else event_type.processing_seconds)


def needed_seconds(event_type: EventType, endpoint: str, expected: Mapping[Pair, Expected]) -> float:
    """Return the seconds that must be left before the deadline to begin a call; planner, release and lanes use it."""
    measured = expected.get((event_type.name, endpoint))
    return (measured.needed_seconds if measured else event_type.processing_seconds) + ANSWER_SLACK_SECONDS


#: The wait after the first failed attempt, seconds. Each further failure doubles it.
FIRST_BACKOFF_SECONDS: Final = 0.5


def backoff_seconds(failed: int) -> float:
    """Return how long an event waits after `failed` attempts (1 or more).

    It varies at random, so events that failed together do not return together.
    """
    return FIRST_BACKOFF_SECONDS * 2.0 ** (failed - 1) * random.uniform(0.5, 1.5)
