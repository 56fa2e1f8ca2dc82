"""The judge of the demo and the test: it compares a run's record, the API's arrivals and the books.

The mock API counts on its own (`rlm/sandbox/mockapi.py`): the judge shares no code with what it judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from rlm.core.documents import Record
from rlm.core.endpoint import EventType
from rlm.core.run import State
from rlm.core.text import counted
from rlm.sandbox.mockapi import Arrival, EndpointSummary, MockApi, exceeded


class DemoWork(NamedTuple):
    """What a demo has to do: `events` in `items`, `speed` times as fast."""

    events: int
    items: int
    speed: float


class DemoVerdict(msgspec.Struct, frozen=True):
    """The result of a demo of `items` items, `speed` times as fast: what `rlm demo --json` prints.

    `answered_seconds` is from the run's first call to its last answer, None without calls; `doubled` events arrived
    more than once; `broken` are the broken promises, in words.
    """

    record: Record
    api: Mapping[str, EndpointSummary]
    items: int
    speed: float
    forecast_seconds: float
    answered_seconds: float | None
    refused: int
    doubled: int
    as_promised: bool
    broken: Sequence[str]


def judge_demo(record: Record, types: Sequence[EventType], api: MockApi, work: DemoWork, unsettled: int) -> DemoVerdict:
    """Judge a run by RLM's promises, after everything has stopped; `unsettled` events are in the ledger."""
    arrivals, seen = api.arrivals, api.summary()
    own = [call for call in arrivals if call.run_id == record.run_id]
    reached = Counter(call.event_id for call in own if call.accepted)
    refused = sum(each.refused for each in seen.values())
    lost = work.events - unsettled - len({call.event_id for call in arrivals if call.accepted})
    broken = list(_broken(record, work.events, len(reached), refused, lost))
    broken += exceeded(arrivals, [endpoint for kind in types for endpoint in kind.endpoints])
    return DemoVerdict(
        record=record,
        api=seen,
        items=work.items,
        speed=work.speed,
        forecast_seconds=record.plan.forecast_seconds,
        answered_seconds=_answered_seconds(own, types),
        refused=refused,
        doubled=sum(number > 1 for number in reached.values()),
        as_promised=not broken,
        broken=broken,
    )


def _answered_seconds(calls: Sequence[Arrival], types: Sequence[EventType]) -> float | None:
    """Return the seconds from first call to last answer: the API answers each call after exactly its type's time."""
    takes = {endpoint.name: kind.processing_seconds for kind in types for endpoint in kind.endpoints}
    answered = [call.at + takes[call.endpoint] for call in calls if call.status is not None]
    return round(max(answered) - min(call.at for call in calls), 3) if answered else None


def _broken(record: Record, events: int, reached: int, refused: int, lost: int) -> Iterator[str]:
    """Yield the broken promises; the API saw `reached` of the run's events."""
    counts = record.counts
    if record.state not in {State.COMPLETED, State.PARTIAL}:
        yield f"the run ended {record.state} ({record.failure or 'no failure is on record'})"
    if refused:
        yield f"the API refused {counted(refused, 'call')}"
    if lost > 0:
        yield f"{counted(lost, 'event')} lost: neither seen by the API nor in the ledger"
    if counts.taken != events:
        yield f"{counts.taken} of {counted(events, 'event')} taken"
    if reached < counts.completed:
        yield f"{counted(counts.completed, 'event')} completed by the record, {reached} by the API"
    if counts.failed:
        yield f"{counted(counts.failed, 'event')} failed"
    if counts.leftover and not record.plan.expected_leftover:
        yield f"{counted(counts.leftover, 'event')} left over, though all should have fitted"
