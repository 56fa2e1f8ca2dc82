"""Calls: how one ends, what is logged of it, what those made show of the next ones. Pure.

What is measured for each type at each endpoint is how long completed calls took.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from rlm.core.endpoint import EventType

#: Earlier runs count from `MEASURED` calls on; the open run alone from `MEASURED_NOW` completed calls on.
MEASURED, MEASURED_NOW = 20, 5

#: The name of a type and of an endpoint.
Pair: TypeAlias = tuple[str, str]
#: The run of a call that was completed, and how many seconds it took.
Took: TypeAlias = tuple[str, float]


class CallEnd(StrEnum):
    """How a call ended. The values appear in Redis and the JSON."""

    COMPLETED = "completed"
    THROTTLED = "throttled"
    #: A temporary failure: the event may be sent again.
    ERROR = "error"
    REJECTED = "rejected"
    #: Not known: the worker died or froze, or the run closed during the call.
    UNKNOWN = "unknown"


class CallEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A call that was sent, by its event's claim number `claims`, as the log has it.

    `sent_us` is when it was sent, microseconds of Redis time; the others are milliseconds: from its request to its
    end, and from taking its event to its end. `window_id` is the endpoint's.
    """

    run_id: str
    type: str
    endpoint: str
    window_id: str
    sent_us: Annotated[int, Meta(ge=0, le=2**60)]
    end: CallEnd
    milliseconds: Annotated[float, Meta(ge=0, le=86_400_000)]  # a day
    age_ms: Annotated[float, Meta(ge=0, le=2**60)]
    event_id: str
    claims: Annotated[int, Meta(ge=0, le=2**60)]

    @property
    def ended_us(self) -> int:
        """When it ended, microseconds of Redis time; right even if that clock was set meanwhile."""
        return self.sent_us + round(self.milliseconds * 1000)


class Expected(msgspec.Struct, frozen=True):
    """What to expect of calls of one type to one endpoint, as measured.

    A call takes `seconds` (the median). It begins only if `needed_seconds`, as nearly all take no longer, and
    `ANSWER_SLACK_SECONDS` are left before the deadline.
    """

    seconds: float
    needed_seconds: float


def expect(outcomes: Iterable[Took], run_id: str = "") -> Expected | None:
    """Return what to expect of the next call, None if nothing better than the configured time is known.

    `outcomes` are those of the newest calls of the type to an endpoint, oldest first. Of the open run only the newest
    ten completed calls count. One slow call changes nothing: `needed_seconds` is their second longest.
    """
    calls = list(outcomes)
    if len(took := [seconds for run, seconds in calls if run == run_id][-10:]) >= MEASURED_NOW:
        return Expected(quantile(sorted(took), 0.50), sorted(took)[-2])
    took = sorted(seconds for _, seconds in calls)
    return Expected(quantile(took, 0.50), quantile(took, 0.95)) if len(took) >= MEASURED else None


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the ascending values lie (nearest rank), 0 without any."""
    return ascending[math.ceil(share * len(ascending)) - 1] if ascending else 0


def expected_of(event_type: EventType, endpoint: str, measured: Mapping[Pair, Expected]) -> Expected:
    """Return what to expect of a call of a type to an endpoint: as measured, else as configured."""
    configured = Expected(event_type.processing_seconds, event_type.processing_seconds)
    return measured.get((event_type.name, endpoint), configured)
