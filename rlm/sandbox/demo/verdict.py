"""What came of a demonstration, by the record of the run and by what the API saw; and whether that was promised."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.core.run import State
from rlm.core.text import counted
from rlm.sandbox.mockapi import exceeded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.endpoint import EventType
    from rlm.sandbox.mockapi import Arrival, EndpointSummary


@dataclass(frozen=True, slots=True)
class Verdict:
    """The run's `record`, what each endpoint of the `api` saw, those of each budget together, and what follows.

    `answered_seconds` is from the first call to the last answer of the run, None without calls; `doubled` events
    arrived more than once; `broken` are the promises that were not kept, in words.
    """

    items: int
    speed: float
    record: Mapping[str, Any]
    api: Mapping[str, EndpointSummary]
    budgets: Mapping[str, EndpointSummary]
    answered_seconds: float | None
    doubled: int
    broken: Sequence[str]

    @property
    def refused(self) -> int:
        """Calls that the API refused."""
        return sum(one.refused for one in self.api.values())

    @property
    def late_seconds(self) -> float:
        """By how much the last answer came after the forecast; negative before it."""
        return (self.answered_seconds or 0.0) - float(self.record["plan"]["forecast_seconds"])

    def as_json(self) -> dict[str, Any]:
        """Return what `rlm demo --json` prints, ready to be encoded."""
        return {
            "record": self.record,
            "api": self.api,
            "budgets": self.budgets,
            "items": self.items,
            "speed": self.speed,
            "forecast_seconds": self.record["plan"]["forecast_seconds"],
            "answered_seconds": self.answered_seconds,
            "refused": self.refused,
            "doubled": self.doubled,
            "as_promised": not self.broken,
            "broken": self.broken,
        }


def judge(
    record: Mapping[str, Any],
    types: Sequence[EventType],
    arrivals: Sequence[Arrival],
    api: Mapping[str, EndpointSummary],
    budgets: Mapping[str, EndpointSummary],
    *,
    events: int,
    unsettled: int,
    items: int,
    speed: float,
) -> Verdict:
    """Hold a run of `events` events against what was promised.

    `arrivals` may be of other runs as well; `unsettled` events are in the ledger when everything has stopped.
    """
    own = [one for one in arrivals if one.run_id == record["run_id"]]
    seen = Counter(one.event_id for one in own if one.accepted)
    lost = events - unsettled - len({one.event_id for one in arrivals if one.accepted})
    broken = list(_broken(record, api, lost=lost, reached=len(seen), events=events))
    broken += exceeded(arrivals, [endpoint for one in types for endpoint in one.endpoints])
    return Verdict(
        items=items,
        speed=speed,
        record=record,
        api=api,
        budgets=budgets,
        answered_seconds=_answered_seconds(own, types),
        doubled=sum(number > 1 for number in seen.values()),
        broken=broken,
    )


def _answered_seconds(arrivals: Sequence[Arrival], types: Sequence[EventType]) -> float | None:
    """Count from the first call to the last answer: the API answers each after exactly its type's time."""
    takes = {endpoint.name: one.processing_seconds for one in types for endpoint in one.endpoints}
    answered = [one.at + takes[one.endpoint] for one in arrivals if one.status is not None]
    return round(max(answered) - min(one.at for one in arrivals), 3) if answered else None


def _broken(
    record: Mapping[str, Any], api: Mapping[str, EndpointSummary], *, lost: int, reached: int, events: int
) -> Iterator[str]:
    counts = record["counts"]
    if record["state"] not in {State.COMPLETED, State.PARTIAL}:
        yield f"the run ended {record['state']} ({record.get('failure', 'no failure is on record')})"
    if refused := sum(one.refused for one in api.values()):
        yield f"the API refused {counted(refused, 'call')}"
    if lost > 0:
        yield f"{counted(lost, 'event')} lost: neither seen by the API nor in the ledger"
    if counts["taken"] != events:
        yield f"{counts['taken']} of {counted(events, 'event')} taken"
    if reached < counts["completed"]:
        yield f"{counted(counts['completed'], 'event')} completed by the record, {reached} by the API"
    if counts["failed"]:
        yield f"{counted(counts['failed'], 'event')} failed"
    if counts["leftover"] and not record["plan"]["expected_leftover"]:
        yield f"{counted(counts['leftover'], 'event')} left over, though all should have fitted"
