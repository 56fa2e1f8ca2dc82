"""The judge of the demo and the self-test: it compares a run's record, the API's arrivals and the books.

The mock API counts on its own (`rlm/sandbox/mockapi/service.py`): the judge shares no code with what it judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from rlm.core.clock import isoformat
from rlm.core.endpoint import EventType
from rlm.core.item import Reason
from rlm.core.run import State
from rlm.core.text import counted
from rlm.ledger.reading.books import books
from rlm.sandbox.mockapi import Arrival, EndpointSummary, exceeded
from rlm.sandbox.stage import Stage

#: The wallet of each item of a self-test, so that its purpose is recognisable.
WALLET = "rlm test"
#: The reasons of the dead letters that its invalid items become.
LETTERS = (Reason.NOT_JSON, Reason.UNKNOWN_TYPE)


class Evidence(NamedTuple):
    """The facts about a run after everything has stopped: its `record`, and the API's view by endpoint and budget.

    `arrivals` may include calls of other runs; `unsettled` events are in the ledger.
    """

    record: Mapping[str, Any]
    types: Sequence[EventType]
    arrivals: Sequence[Arrival]
    api: Mapping[str, EndpointSummary]
    budgets: Mapping[str, EndpointSummary]
    unsettled: int

    @classmethod
    def of(cls, stage: Stage, record: Mapping[str, Any]) -> Evidence:
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
        if self.record["state"] not in states:
            yield f"the run ended {self.record['state']} ({self.record.get('failure', 'no failure is on record')})"

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
        return (self.answered_seconds or 0.0) - float(self.evidence.record["plan"]["forecast_seconds"])

    def as_json(self) -> dict[str, Any]:
        """Return what `rlm demo --json` prints, ready to be encoded."""
        return {
            "record": self.evidence.record,
            "api": self.evidence.api,
            "budgets": self.evidence.budgets,
            "items": self.items,
            "speed": self.speed,
            "forecast_seconds": self.evidence.record["plan"]["forecast_seconds"],
            "answered_seconds": self.answered_seconds,
            "refused": self.evidence.refused,
            "doubled": self.doubled,
            "as_promised": not self.broken,
            "broken": self.broken,
        }


def judge_demo(evidence: Evidence, *, events: int, items: int, speed: float) -> DemoVerdict:
    """Judge a run of `events` events in `items` items by RLM's promises."""
    reached = evidence.accepted(evidence.record["run_id"])
    doubled = sum(number > 1 for number in reached.values())
    broken = list(_broken(evidence, events, len(reached)))
    return DemoVerdict(evidence, items, speed, _answered_seconds(evidence), doubled, broken)


def _answered_seconds(evidence: Evidence) -> float | None:
    """Return the seconds from first call to last answer: the API answers each call after exactly its type's time."""
    takes = {endpoint.name: one.processing_seconds for one in evidence.types for endpoint in one.endpoints}
    own = [one for one in evidence.arrivals if one.run_id == evidence.record["run_id"]]
    answered = [one.at + takes[one.endpoint] for one in own if one.status is not None]
    return round(max(answered) - min(one.at for one in own), 3) if answered else None


def _broken(evidence: Evidence, events: int, reached: int) -> Iterator[str]:
    """Yield the broken promises; the API saw `reached` of the run's events."""
    counts = evidence.record["counts"]
    lost = events - evidence.unsettled - len(evidence.accepted())
    yield from evidence.wrong_end(State.COMPLETED, State.PARTIAL)
    yield from evidence.refusals()
    if lost > 0:
        yield f"{counted(lost, 'event')} lost: neither seen by the API nor in the ledger"
    if counts["taken"] != events:
        yield f"{counts['taken']} of {counted(events, 'event')} taken"
    if reached < counts["completed"]:
        yield f"{counted(counts['completed'], 'event')} completed by the record, {reached} by the API"
    if counts["failed"]:
        yield f"{counted(counts['failed'], 'event')} failed"
    if counts["leftover"] and not evidence.record["plan"]["expected_leftover"]:
        yield f"{counted(counts['leftover'], 'event')} left over, though all should have fitted"
    yield from evidence.exceeded()


class Batch(NamedTuple):
    """Items to push, and the ids of the events to complete; the other items become `LETTERS` and a duplicate."""

    items: tuple[bytes, ...]
    events: frozenset[str]


def make_batch(prefix: str, events_by_type: Mapping[str, int], now: float) -> Batch:
    """Return items of one event each, one of them twice, one of an unknown type, and one that is not an item.

    Their ids begin with `prefix`; `now` is their timestamp, in seconds since 1970.
    """
    names = [name for name, number in events_by_type.items() for _ in range(number)]
    items = [_item(f"{prefix}-{number}", name, now) for number, name in enumerate(names, start=1)]
    events = frozenset(f"{prefix}-{number}:{name}" for number, name in enumerate(names, start=1))
    unknown = _item(f"{prefix}-0", prefix, now)
    return Batch((*items, items[0], unknown, f"{prefix}: no JSON".encode()), events)


def _item(item_id: str, name: str, now: float) -> bytes:
    fields = {"id": item_id, "wallet_name": WALLET, "events": [name], "timestamp": isoformat(now)}
    return msgspec.json.encode(fields)


def judge_batch(evidence: Evidence, batch: Batch, stage: Stage) -> Iterator[tuple[str, str, list[str]]]:
    """Check step by step whether the run of `batch` was as promised: yield (name, text if good, faults)."""
    calls, events = counted(len(evidence.arrivals), "call"), len(batch.events)
    endpoints = counted(len(stage.settings.endpoints), "endpoint")
    letters = f"what is not an event was set aside, with the reason: {', '.join(LETTERS)}"
    within = f"the API refused none, and by its count none of {endpoints} got too many"
    limits = [*evidence.refusals(), *evidence.exceeded()]
    yield ("events", f"all {events} were completed, each once", list(event_faults(evidence, batch)))
    yield ("idempotency", f"{calls}, each with its key", list(key_faults(evidence, batch)))
    yield ("limits", within, limits)
    yield ("record", "the run's record has them all", list(record_faults(evidence, batch)))
    yield ("dead letters", letters, list(_letter_faults(stage)))
    yield ("books", "they balance, and nothing is left in the ledger", list(_book_faults(stage)))


def event_faults(evidence: Evidence, batch: Batch) -> Iterator[str]:
    """Yield what is wrong with the events that reached the API."""
    arrived = evidence.accepted()
    if missing := batch.events - arrived.keys():
        yield f"{counted(len(missing), 'event')} never reached the API"
    answered = {one.event_id for one in evidence.arrivals if one.status == HTTPStatus.OK}
    if failed := (batch.events & arrived.keys()) - answered:
        yield f"{counted(len(failed), 'event')} reached the API, but it did not answer with success"
    if doubled := sum(number > 1 for number in arrived.values()):
        yield f"{counted(doubled, 'event')} reached the API more than once"
    if strange := arrived.keys() - batch.events - {None}:
        yield f"{counted(len(strange), 'event')} reached the API that nobody pushed"


def key_faults(evidence: Evidence, batch: Batch) -> Iterator[str]:
    """Yield a fault if calls lacked the Idempotency-Key of an event."""
    if wrong := sum(one.event_id not in batch.events for one in evidence.arrivals):
        yield f"{counted(wrong, 'call')} had no Idempotency-Key, or a wrong one"


def record_faults(evidence: Evidence, batch: Batch) -> Iterator[str]:
    """Yield what is wrong in the record."""
    yield from evidence.wrong_end(State.COMPLETED)
    events = len(batch.events)
    expected = {"taken": events, "carried_over": 0, "completed": events, "failed": 0, "leftover": 0}
    expected |= {"duplicates": 1, "invalid": len(LETTERS)}
    for what, number in expected.items():
        if evidence.record["counts"][what] != number:
            yield f"{what} is {evidence.record['counts'][what]}, not {number}"


def _letter_faults(stage: Stage) -> Iterator[str]:
    found = Counter(msgspec.json.decode(raw)["reason"] for raw in stage.store.letters.all())
    if found != Counter(str(reason) for reason in LETTERS):
        there = ", ".join(f"{number} {reason}" for reason, number in sorted(found.items())) or "none"
        yield f"there are {there}, not one each of {', '.join(LETTERS)}"


def _book_faults(stage: Stage) -> Iterator[str]:
    found = books(stage.store)
    yield from found.faults
    if found.unsettled:
        yield f"{counted(found.unsettled, 'event')} are left in the ledger"
    if found.events or found.staged:
        yield f"{found.events} items are left on the list, {found.staged} in staging"
