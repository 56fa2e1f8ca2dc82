"""The judge of a trial: compares five promises with the API's log, the records and the queue."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.hosts.api import SeenCall
    from tests.hosts.bench import Layout

#: Seconds by which a run may start after its tick, or after the end of the run before.
ON_TIME = 2.0


@dataclass(frozen=True)
class TrialEvidence:
    """The facts after a trial. `waiting` events are neither completed nor dead letters, `dead` are dead letters."""

    layout: Layout
    pushed: Mapping[str, float]
    calls: Sequence[SeenCall]
    records: Sequence[Mapping[str, Any]]
    waiting: int
    dead: int
    compliance: Mapping[str, Any] | None


def moment(text: str) -> float:
    """Return a time of a record, as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def faults(evidence: TrialEvidence) -> list[str]:
    """Return each broken promise, in words."""
    checks = (_lost, _keys, _twice_in_flight, _limits, _books, _on_time)
    return [fault for check in checks for fault in check(evidence)]


def _lost(evidence: TrialEvidence) -> Iterator[str]:
    answered = {call.key for call in evidence.calls if call.status == 200}
    missing = evidence.pushed.keys() - answered
    if len(missing) > evidence.waiting + evidence.dead:
        lost = len(missing) - evidence.waiting - evidence.dead
        yield f"{lost} events lost: never answered, and not waiting; among {sorted(missing)[:5]}"
    completed = sum(record["counts"]["completed"] for record in evidence.records)
    if completed > len(answered):
        yield f"{completed} completed by the records, {len(answered)} answered by the API"
    if completed + evidence.waiting + evidence.dead != len(evidence.pushed):
        parts = f"{completed} completed + {evidence.waiting} waiting + {evidence.dead} dead letters"
        yield f"{parts} are not the {len(evidence.pushed)} that were pushed"


def _keys(evidence: TrialEvidence) -> Iterator[str]:
    strange = [call for call in evidence.calls if call.key not in evidence.pushed or call.key != call.event]
    if strange:
        yield f"{len(strange)} calls with another Idempotency-Key than their event's id: {strange[0]}"


def _twice_in_flight(evidence: TrialEvidence) -> Iterator[str]:
    by_key: defaultdict[str, list[SeenCall]] = defaultdict(list)
    for call in evidence.calls:
        by_key[call.key].append(call)
    twice = [(one, two) for calls in by_key.values() for one, two in pairwise(calls) if two.at < one.ended]
    if twice:
        yield f"{len(twice)} times an event was twice in flight: {twice[0]}"


def _limits(evidence: TrialEvidence) -> Iterator[str]:
    refused = Counter(call.endpoint for call in evidence.calls if call.status == 429)
    if refused:
        yield f"the API refused {refused.total()} calls as too many: {dict(refused)}"
    worst = {name: most(times, evidence.layout.period) for name, times in arrivals(evidence.calls).items()}
    exceeded = {name: number for name, number in worst.items() if number > evidence.layout.amount}
    if exceeded:
        yield f"more than {evidence.layout.amount} calls in {evidence.layout.period:g} s: {exceeded}"
    if evidence.compliance is not None and not evidence.compliance["ok"] and not exceeded:
        yield f"compliance says exceeded, the API saw at most {max(worst.values(), default=0)}"


def _books(evidence: TrialEvidence) -> Iterator[str]:
    for record in evidence.records:
        for name, entry in (*record["by_type"].items(), ("in all", record["counts"])):
            came = entry["taken"] + entry["carried_over"]
            if came != entry["completed"] + entry["failed"] + entry["leftover"]:
                yield f"the books of {record['run_id']} do not balance, {name}: {entry}"
        for name, entry in record["by_endpoint"].items():
            if entry["calls"] != entry["completed"] + entry["throttled"] + entry["errors"]:
                yield f"the calls of {record['run_id']} do not balance, {name}: {entry}"
    for before, after in pairwise(evidence.records):
        if after["counts"]["carried_over"] != before["counts"]["leftover"]:
            numbers = f"{before['counts']['leftover']} left over, {after['counts']['carried_over']} carried over"
            yield f"{before['run_id']} to {after['run_id']}: {numbers}"


def _on_time(evidence: TrialEvidence) -> Iterator[str]:
    """Check that each run starts on the first tick after its events came, or right after the run before."""
    window = evidence.layout.window
    for before, after in pairwise(evidence.records):
        ended, started = moment(before["finished_at"]), moment(after["started_at"])
        off_the_clock = started % window
        if after["trigger"] == "schedule" and off_the_clock > ON_TIME and started - ended > ON_TIME:
            yield f"{after['run_id']} started {off_the_clock:.1f} s after a tick, {started - ended:.1f} s after a run"
        if before["counts"]["leftover"] and started - ended > window + ON_TIME:
            yield f"{before['counts']['leftover']} left over waited {started - ended:.1f} s for the next run"


def arrivals(calls: Sequence[SeenCall]) -> dict[str, list[float]]:
    """Return when calls arrived, by endpoint, in order."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for call in calls:
        found[call.endpoint].append(call.at)
    return dict(found)


def most(times: Sequence[float], period: float) -> int:
    """Return the most of `times` in one period, wherever it begins."""
    first = best = 0
    for last, at in enumerate(times):
        while times[first] <= at - period:
            first += 1
        best = max(best, last - first + 1)
    return best
