"""The sentence that says where an event is and what it waits for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlm.admin.explain.look import EndpointGate, TypeStatus
from rlm.core.clock import isoformat
from rlm.core.item import type_of
from rlm.core.run import Run, State
from rlm.core.text import counted, of_another_configuration, ordinal, span
from rlm.core.trail import CallEnd, Place
from rlm.core.window import Circuit
from rlm.ledger.reading import Whereabouts

#: Reasons other than its limit for which an endpoint is shut.
_BARS = frozenset({Circuit.PAUSED, Circuit.HELD, Circuit.RESTING, Circuit.PROBING})


def sentence(event: Whereabouts, status: TypeStatus) -> str:
    """Return where an event is and, if it waits, what for."""
    return " ".join(f"{event.event_id} {_SENTENCES[event.place](event, status)}".split())


def took(attempt: Mapping[str, Any]) -> str:
    """Return how long an answer took; `no answer` for a call without one, '' if that is not known."""
    if attempt["seconds"] is None:
        return "" if attempt["answer"] == CallEnd.UNKNOWN else "no answer"
    return f"{attempt['seconds']:.2f} s"


def moment(at: float, now: float) -> str:
    """Return a moment in UTC, without the date if it is today."""
    day, _, time = isoformat(at).removesuffix("Z").partition("T")
    return f"{'' if day == isoformat(now)[:10] else f'{day} '}{time} UTC"


def _queued(event: Whereabouts, status: TypeStatus) -> str:
    where = "in staging, moved off the audit list" if event.staged else "on the audit list"
    place = f"{ordinal(event.position or 1)} of {event.of or 1:,}"
    fate = f"will become a dead letter, {event.fault}, when its item is taken" if event.fault else "not taken yet"
    return f"is {where}, in about the {place} items: {fate}; {_next_run(status)}"


def _pending(event: Whereabouts, status: TypeStatus) -> str:
    run, told = status.run, f"is pending{_in_order(event)}: {_why(event, status)}"
    if run is None or not _is_late(event, run) or _stopped(run, status):
        return told
    return f"{told}; by the forecast it will be left over, and {_next_run(status)}"


def _is_late(event: Whereabouts, run: Run) -> bool:
    """Return whether an event is among the last in order, which the forecast leaves over."""
    left_over = run.forecast.leftover_by_type.get(type_of(event.event_id), 0) if run.forecast else 0
    return bool(event.position and event.of and event.position > event.of - left_over)


def _in_order(event: Whereabouts) -> str:
    return f", {ordinal(event.position)} of {event.of:,} of its type" if event.position and event.of else ""


def _why(event: Whereabouts, status: TypeStatus) -> str:
    run = status.run
    if run is None:  # it was closed meanwhile
        return _next_run(status)
    if stopped := _stopped(run, status):
        return stopped
    if not status.ready:
        others = f"; {of_another_configuration(status.strangers)}: restart what `rlm doctor` names"
        return f"no worker is ready, of {status.wanted} wanted{others if status.strangers else ''}"
    free = sum(gate.free for gate in status.gates)
    return _free(event, status, free) if free else _shut(status.gates)


def _stopped(run: Run, status: TypeStatus) -> str:
    """Return why an open run sends nothing of the type, whatever slots and lanes are free; empty if it may."""
    if status.needs_seconds is None:
        return "its type is no longer configured, so it becomes a dead letter when the next run starts"
    if run.cancelled or run.state is State.FINISHING:
        return f"run {run.id} is ending, so it will be left over; {_next_run(status)}"
    if status.unfit or not status.conducted:
        nobody = f"nobody conducts run {run.id}: `rlm up` or `rlm scheduler` continues it"
        return f"nothing is sent until Redis is fit: {status.unfit}" if status.unfit else nobody
    if run.state is not State.RUNNING:
        return f"run {run.id} is still {run.state}, and nothing is sent before it is running"
    left = max(0.0, status.remaining_seconds)
    if left < status.needs_seconds:
        return f"run {run.id} has {span(left)} left, too little for a call, so it will be left over"
    return ""


def _free(event: Whereabouts, status: TypeStatus, free: int) -> str:
    before, idle = (event.position or 1) - 1, max(0, status.lanes - status.busy)
    lanes = f"{idle:,} of {counted(status.lanes, 'lane')}"
    return f"{free:,} of its slots and {lanes} are free, and {before:,} of its type go first"


def _shut(gates: Sequence[EndpointGate]) -> str:
    """Return how many endpoints are in which health and, if all have the same reason, why; and when the next opens."""
    healths = Counter(gate.health for gate in gates)
    told = ", ".join(f"{number} {health}" for health, number in healths.items())
    reasons = {gate.reason for gate in gates}
    reason = reasons.pop() if len(reasons) == 1 else None
    waiting = [gate for gate in gates if gate.wait_seconds is not None]
    first = min(waiting, key=lambda gate: gate.wait_seconds or 0.0, default=None)
    when = f"{first.endpoint} has a slot in {span(first.wait_seconds)}" if first else "none opens before it is resumed"
    return f"no endpoint lets a call through ({told}{f': {reason}' if reason else ''}); {when}"


def _barred(status: TypeStatus) -> str:
    """Return a clause that no call is possible for a reason other than the limits; else empty."""
    gates = status.gates
    return f"; {_shut(gates)}" if gates and all(gate.health in _BARS for gate in gates) else ""


def _in_flight(event: Whereabouts, status: TypeStatus) -> str:
    by = f"worker {event.worker}"
    if event.called:
        endpoint, since = event.called
        what = (
            f"is in flight at {endpoint}, its {ordinal(event.attempt + 1)} attempt, since "
            f"{moment(since, event.now)}, {span(max(0.0, event.now - since))}, in {by}"
        )
    else:
        what = f"is claimed by {by} and has no slot yet"
    over = event.now - event.due
    if over > 0:
        return f"{what}, whose lease ran out {span(over)} ago: it is taken back as soon as somebody conducts"
    if event.worker not in status.workers:
        return f"{what}, which is no longer heard from: it is taken back in {span(-over)} at the latest"
    return what


def _backing_off(event: Whereabouts, status: TypeStatus) -> str:
    left = event.due - event.now
    if left <= 0:
        return f"is about to be pending again for its {ordinal(event.attempt + 1)} attempt: its back-off is over"
    late = status.run and status.remaining_seconds < left + (status.needs_seconds or 0.0)
    end = ", which is too late for this run, so it will be left over" if late else ""
    return f"waits {span(left)} before its {ordinal(event.attempt + 1)} attempt (back-off){end}"


def _spent(event: Whereabouts, status: TypeStatus) -> str:
    runs = f"the {ordinal(max(1, event.runs))} run of at most {status.max_runs:,}"
    fate = f"it will be left over for the next; {_next_run(status)}"
    return f"has spent its {counted(event.tries, 'attempt')} of this run, {runs}: {fate}{_barred(status)}"


def _leftover(event: Whereabouts, status: TypeStatus) -> str:
    runs = f"{event.runs:,} of at most {status.max_runs:,} runs"
    spent = f"; it has spent all its attempts in {runs}" if event.runs else ""
    gone = "" if status.needs_seconds is not None else "; its type is no longer configured, so it becomes a dead letter"
    return f"is left over{_in_order(event)}: no run is open; {_next_run(status)}{spent}{gone}{_barred(status)}"


def _completed(event: Whereabouts, _status: TypeStatus) -> str:
    done = event.attempts[-1] if event.attempts else None
    if done is None or done.answer is not CallEnd.COMPLETED:
        return f"is completed by {event.last} at its {ordinal(event.attempt)} attempt"
    after = f", {span(max(0.0, done.at - event.taken_at))} after it was taken" if event.taken_at else ""
    when = moment(done.at, event.now)
    return f"was completed at {when} by {done.endpoint} at its {ordinal(done.number)} attempt{after}"


def _failed(event: Whereabouts, _status: TypeStatus) -> str:
    letter = event.letter
    if letter is None:
        return "became a dead letter, which is no longer on the list: it was archived, or removed"
    return f"is a dead letter since {letter.failed_at}: {letter.reason}, {letter.detail}"


def _next_run(status: TypeStatus) -> str:
    if status.unfit:
        return f"no run starts until Redis is fit: {status.unfit}"
    if status.next_run_at is None and status.run and status.conducted:
        return "no other run follows by itself (`rlm start` starts one)"
    if status.next_run_at is None:
        return "no scheduler is alive, so no run starts by itself (`rlm start --wait` conducts one)"
    return f"the next run starts at about {moment(status.next_run_at, status.now).partition('.')[0]} UTC"


_SENTENCES: dict[Place, Callable[[Whereabouts, TypeStatus], str]] = {
    Place.QUEUED: _queued,
    Place.PENDING: _pending,
    Place.IN_FLIGHT: _in_flight,
    Place.BACKING_OFF: _backing_off,
    Place.SPENT: _spent,
    Place.LEFTOVER: _leftover,
    Place.COMPLETED: _completed,
    Place.FAILED: _failed,
    Place.NOWHERE: lambda *_: "is in the ledger but in none of its places, which is a fault of RLM; see `rlm doctor`",
}
