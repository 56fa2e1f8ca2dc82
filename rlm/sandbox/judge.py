"""The judge of the demo and the test: it compares a run's record, the API's arrivals and the books.

The mock API counts on its own (`rlm/sandbox/mockapi/service.py`): the judge shares no code with what it judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rlm.core.documents import Record
from rlm.core.endpoint import EventType
from rlm.core.run import State
from rlm.core.text import counted
from rlm.ledger.reading.books import books
from rlm.sandbox.mockapi import Arrival, EndpointSummary, exceeded
from rlm.sandbox.stage import Stage


class Evidence(NamedTuple):
    """The facts about a run after everything has stopped: its `record`, and the API's view by endpoint and budget.

    `arrivals` may include calls of other runs; `unsettled` events are in the ledger.
    """

    record: Record
    types: Sequence[EventType]
    arrivals: Sequence[Arrival]
    api: Mapping[str, EndpointSummary]
    budgets: Mapping[str, EndpointSummary]
    unsettled: int

    @classmethod
    def of(cls, stage: Stage, record: Record) -> Evidence:
        """Collect the evidence of a run on `stage`."""
        api = stage.api
        unsettled = books(stage.store).unsettled
        return cls(record, stage.settings.event_types, api.arrivals, api.summary(), api.budget_summary(), unsettled)

    @property
    def refused(self) -> int:
        """The number of calls that the API refused."""
        return sum(one.refused for one in self.api.values())

    def accepted(self, run_id: str | None = None) -> Counter[str | None]:
        """Count the accepted calls by event, of one run or of all."""
        return Counter(one.event_id for one in self.arrivals if one.accepted and run_id in {None, one.run_id})

    def wrong_end(self, *states: State) -> Iterator[str]:
        """Yield a fault if the run ended in none of `states`."""
        if self.record.state not in states:
            yield f"the run ended {self.record.state} ({self.record.failure or 'no failure is on record'})"

    def refusals(self) -> Iterator[str]:
        """Yield a fault if the API refused calls."""
        if self.refused:
            yield f"the API refused {counted(self.refused, 'call')}"

    def exceeded(self) -> list[str]:
        """Return a fault for each exceeded limit of an endpoint or budget, by a recount of the arrivals."""
        return exceeded(self.arrivals, [endpoint for one in self.types for endpoint in one.endpoints])


class DemoVerdict(NamedTuple):
    """The result of a demo of `items` items, `speed` times as fast, by the `evidence` of its run.

    `answered_seconds` is from the run's first call to its last answer, None without calls; `doubled` events arrived
    more than once; `broken` are the broken promises, in words.
    """

    evidence: Evidence
    items: int
    speed: float
    answered_seconds: float | None
    doubled: int
    broken: Sequence[str]

    @property
    def late_seconds(self) -> float:
        """How many seconds after the forecast the last answer came; negative if before."""
        return (self.answered_seconds or 0.0) - float(self.evidence.record.plan.forecast_seconds)

    def as_json(self) -> dict[str, Any]:
        """Return what `rlm demo --json` prints, ready to be encoded."""
        return {
            "record": self.evidence.record,
            "api": self.evidence.api,
            "budgets": self.evidence.budgets,
            "items": self.items,
            "speed": self.speed,
            "forecast_seconds": self.evidence.record.plan.forecast_seconds,
            "answered_seconds": self.answered_seconds,
            "refused": self.evidence.refused,
            "doubled": self.doubled,
            "as_promised": not self.broken,
            "broken": self.broken,
        }


def judge_demo(evidence: Evidence, *, events: int, items: int, speed: float) -> DemoVerdict:
    """Judge a run of `events` events in `items` items by RLM's promises."""
    reached = evidence.accepted(evidence.record.run_id)
    doubled = sum(number > 1 for number in reached.values())
    broken = list(_broken(evidence, events, len(reached)))
    return DemoVerdict(evidence, items, speed, _answered_seconds(evidence), doubled, broken)


def _answered_seconds(evidence: Evidence) -> float | None:
    """Return the seconds from first call to last answer: the API answers each call after exactly its type's time."""
    takes = {endpoint.name: one.processing_seconds for one in evidence.types for endpoint in one.endpoints}
    own = [one for one in evidence.arrivals if one.run_id == evidence.record.run_id]
    answered = [one.at + takes[one.endpoint] for one in own if one.status is not None]
    return round(max(answered) - min(one.at for one in own), 3) if answered else None


def _broken(evidence: Evidence, events: int, reached: int) -> Iterator[str]:
    """Yield the broken promises; the API saw `reached` of the run's events."""
    counts = evidence.record.counts
    lost = events - evidence.unsettled - len(evidence.accepted())
    yield from evidence.wrong_end(State.COMPLETED, State.PARTIAL)
    yield from evidence.refusals()
    if lost > 0:
        yield f"{counted(lost, 'event')} lost: neither seen by the API nor in the ledger"
    if counts.taken != events:
        yield f"{counts.taken} of {counted(events, 'event')} taken"
    if reached < counts.completed:
        yield f"{counted(counts.completed, 'event')} completed by the record, {reached} by the API"
    if counts.failed:
        yield f"{counted(counts.failed, 'event')} failed"
    if counts.leftover and not evidence.record.plan.expected_leftover:
        yield f"{counted(counts.leftover, 'event')} left over, though all should have fitted"
    yield from evidence.exceeded()
