"""The record of a run, and the check of its promises.

Whoever closes a run checks it, and raises an alarm for each broken promise.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from rlm.core.alarms import Alarm, alarm
from rlm.core.documents import CallCounts, Record, Used
from rlm.core.endpoint import Budget, Limit, Limited
from rlm.core.errors import StoreError
from rlm.core.expected import quantile
from rlm.core.run import Run, Waited, make_record
from rlm.core.tally import actual_seconds, troubles_of, with_trouble
from rlm.core.window import most_in_any
from rlm.delivery.outcome import DEADLINE
from rlm.ledger import Store
from rlm.ledger.reading.books import ANSWERS, Ending, books, miscounted, read_ending
from rlm.ledger.reading.compliance import excess_of
from rlm.ledger.values import MICROSECONDS
from rlm.plan.causes import Ended, causes, reasons

log = logging.getLogger(__name__)


def record_so_far(store: Store, run: Run, now_us: int, *, measured: bool = True) -> Record:
    """Return the record that an open run would leave if it were closed at `now_us`.

    Without `measured`, peaks and durations are 0; reading them takes longer the longer the run lasts.
    """
    return _record(store, run, read_ending(store, run, measured=measured), now_us)


def final_record(store: Store, run: Run, ending: Ending) -> Record:
    """Return the record of a run that is being closed, including what is known only at its end."""
    record = _record(store, run, ending, ending.now_us)
    sent = sorted(moment for name in record.by_endpoint for moment in ending.sent.get(name, ()))
    actual = actual_seconds(ending.calls, sent[0] if sent else None)
    if actual is not None:
        used = _used(store, record, ending, max(actual, (sent[-1] - sent[0]) / MICROSECONDS))
        record = replace(record, plan=replace(record.plan, actual_seconds=actual), used=used)
    leftover = {name: entry.leftover for name, entry in record.by_type.items()}
    ended = Ended(
        leftover=leftover,
        spent=run.spent or {},
        cut=with_trouble(DEADLINE, ending.tally, store.settings.event_types, leftover),
        waited=run.waits or Waited(run.started_at),
        cancelled=run.cancelled,
        failure=run.failure,
        stopped=run.stopped,
    )
    return replace(record, why=causes(ended), leftover_by_reason=reasons(ended))


def _record(store: Store, run: Run, ending: Ending, now_us: int) -> Record:
    record = make_record(
        run,
        ending.tally,
        [event_type.name for event_type in store.settings.event_types],
        finished_at=run.moment(now_us),
        restarted=ending.restarts - run.restarts_before if run.plan else 0,
    )
    by_endpoint, by_budget = _called(ending)
    troubles = troubles_of(ending.tally, ending.endpoints)
    return replace(record, by_endpoint=by_endpoint, by_budget=by_budget, troubles=troubles)


def _called(ending: Ending) -> tuple[dict[str, CallCounts], dict[str, CallCounts]]:
    """Return the record's parts about endpoints, and about budgets, which have the sums of their endpoints."""
    durations: dict[str, list[float]] = {}
    for call in ending.calls:
        durations.setdefault(call.endpoint, []).append(call.milliseconds)
    by_endpoint = {}
    sharing: dict[Budget, list[str]] = {}
    for name, endpoint in ending.endpoints.items():
        milliseconds = sorted(durations.get(name, []))
        counts = _calls(ending, endpoint, [name])
        p50_ms, p95_ms = quantile(milliseconds, 0.50), quantile(milliseconds, 0.95)
        by_endpoint[name] = replace(counts, p50_ms=p50_ms, p95_ms=p95_ms)
        if endpoint.budget:
            sharing.setdefault(endpoint.budget, []).append(name)
    return by_endpoint, {budget.name: _calls(ending, budget, names) for budget, names in sharing.items()}


def _calls(ending: Ending, limited: Limited, names: Sequence[str]) -> CallCounts:
    """Return the calls of `names` in a run by answer, and the most in a period of the first rule."""
    period_us = round(limited.limit.rules[0].seconds * MICROSECONDS)
    answers = {word: sum(ending.tally.get(f"{what}:{name}", 0) for name in names) for what, word in ANSWERS.items()}
    return CallCounts(
        calls=sum(answers.values()),
        **answers,
        peak_in_window=most_in_any(ending.sent.get(limited.name, ()), period_us),
        limit=limited.limit.text,
    )


def _used(store: Store, record: Record, ending: Ending, seconds: float) -> Used:
    """Return the share of lanes and slots that a run used in the `seconds` in which it made calls.

    The slots are those of the endpoints of the types that had events.
    """
    with_events = [name for name, entry in record.by_type.items() if entry.taken + entry.carried_over]
    names = {end.name for kind in store.settings.event_types if kind.name in with_events for end in kind.endpoints}
    guard_seconds = store.settings.run.guard_seconds
    made = {name: entry.calls for name, entry in record.by_endpoint.items()}
    lanes = record.workers.peak * record.plan.threads
    ages = sorted(call.age_ms / 1000 for call in ending.calls)
    busy = sum(call.milliseconds for call in ending.calls) / 1000
    slots = sum(_slots(ending.endpoints[name].limit, seconds, guard_seconds) for name in names) if seconds else 0
    return Used(
        calls_per_minute=round(sum(made.values()) * 60 / seconds, 1) if seconds else 0.0,
        lanes=round(min(1.0, busy / (lanes * seconds)), 3) if lanes and seconds else 0.0,
        slots=round(min(1.0, sum(made.get(name, 0) for name in names) / slots), 3) if slots else 0.0,
        answered_p50_seconds=round(quantile(ages, 0.50), 3),
        answered_p95_seconds=round(quantile(ages, 0.95), 3),
    )


def _slots(limit: Limit, seconds: float, guard_seconds: float) -> int:
    """Return the slots that a window, open at the start, has in `seconds`, by the rule that allows the fewest."""
    return min(rule.amount * (1 + int(seconds / (rule.seconds + guard_seconds))) for rule in limit.rules)


def look_over(store: Store, record: Record) -> None:
    """Raise an alarm for each broken promise of a run, and record that this is done; forget the oldest calls.

    If Redis fails there is no alarm, but `rlm doctor` checks too, and so does the next conductor.
    """
    try:
        _look_at_limits(store, record)
        _look_at_books(store, record)
        _look_at_letters(store, record)
        store.calls.trim()
        store.leases.note_end(record.run_id)
    except StoreError as error:
        extra = {"action": "inspect", "run_id": record.run_id}
        log.info("Run %s is not checked, because Redis failed: %s", record.run_id, error, extra=extra)


def _look_at_limits(store: Store, record: Record) -> None:
    over = {name: calls for name, calls in excess_of(store, record).items() if calls}
    if over:
        worst = max(over, key=over.__getitem__)
        counts = {"exceeded": len(over), "too_many": over[worst]}
        message = "The limit of %s was exceeded, by %d calls in one period at the worst; `rlm compliance` shows where"
        extra = alarm(Alarm.LIMIT_EXCEEDED, "inspect", counts=counts, run_id=record.run_id, endpoint=worst)
        log.error(message, ", ".join(over), over[worst], extra=extra)


def _look_at_books(store: Store, record: Record) -> None:
    state = books(store)
    if faults := [*state.faults, *_faults_of(record), *miscounted(store, state, record)]:
        extra = alarm(Alarm.BOOKS_UNBALANCED, "inspect", counts={"faults": len(faults)}, run_id=record.run_id)
        log.error("The books do not balance after run %s: %s", record.run_id, "; ".join(faults), extra=extra)


def _look_at_letters(store: Store, record: Record) -> None:
    """After a run that added dead letters, compare their number with the configured bound."""
    most, counts = store.settings.alarm.failed, record.counts
    added = counts.failed + counts.invalid
    if not added:
        return
    letters = store.letters.count()
    if most and letters > most:
        message = "There are %d dead letters, %d more since run %s began, which completed %d; see `rlm failed list`"
        numbers = {"letters": letters, "failed": counts.failed, "invalid": counts.invalid}
        extra = alarm(Alarm.DEAD_LETTERS, "inspect", counts=numbers, run_id=record.run_id)
        log.warning(message, letters, added, record.run_id, counts.completed, extra=extra)


def _faults_of(record: Record) -> list[str]:
    """Return a sentence for each type whose counts in a record do not add up."""
    return [
        f"{name}: {entry.taken} taken and {entry.carried_over} carried over, but {entry.completed} completed, "
        f"{entry.failed} failed and {entry.leftover} left over"
        for name, entry in record.by_type.items()
        if entry.taken + entry.carried_over != entry.completed + entry.failed + entry.leftover
    ]
