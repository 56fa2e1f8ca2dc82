"""The end of a run: unsettled events become leftovers, and its record is made, written exactly once, and looked over.

The end-of-run actor and the conductor both call `close_run`. A lane that hears from its turn that nothing more can be
done in the run has the actor close it, so a run is closed in time even if no conductor lives. That takes no lease: the
run's own state decides.
"""

from __future__ import annotations

import logging
from itertools import chain

from msgspec.structs import replace

from rlm.core.call import quantile
from rlm.core.clock import isoformat
from rlm.core.documents import CallCounts, Record, RunCounts, RunPlan, RunWorkers, TypeCounts, Used
from rlm.core.endpoint import all_limited
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State
from rlm.ledger.books import Ending, books, read_ending, troubles_of, type_counts
from rlm.ledger.calls import added_to_totals, fullest
from rlm.ledger.runs import explained
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS
from rlm.plan.causes import left_over, shut_at_last
from rlm.settings import Settings

#: The counts of an endpoint's calls by answer, as named in the tally and in the record.
ANSWERS = {"delivered": "completed", "throttled": "throttled", "errors": "errors"}
#: The failure of a run at whose deadline nobody could write to Redis. So it was if a lane closes it so late, seconds:
#: lanes ask at the deadline, and again as soon as Redis answers. A run that did not fail is closed within a second.
REDIS_AWAY, LATE_SECONDS = "no process reached a fit Redis at the deadline", 0.9

log = logging.getLogger(__name__)


def close_run(store: Store, run_id: str, *, token: int | None = None, failure: str = "") -> Record | None:
    """End the run and close it; return its record, None if it is not to be closed here.

    Without the `token` of its conductor only if it may be ended by anybody. `failure` says why RLM could not conduct
    it, if so. Closing is one compare-and-set in Redis, so a second caller changes nothing. Once a run is finishing
    nothing can settle any more; a letter that is retried meanwhile is the next run's.
    """
    while True:
        state = books(store, [*store.settings.types])
        run, left_seconds = state.run, state.run.left_seconds(state.now_us) if state.run else 0.0
        if run is None or run.id != run_id:
            return None
        if run.state is not State.FINISHING:  # it is ended here
            is_late = token is None and left_seconds < -LATE_SECONDS
            failure = failure or run.failure or (REDIS_AWAY if is_late else "")
            spent = {name: count.spent for name, count in state.by_type.items() if count.spent}
            waits, waiting = run.waits, any(count.pending for count in state.by_type.values())
            if waits and waiting and left_seconds > 0:  # no conductor need have looked since
                windows = store.windows.look(all_limited(store.endpoints().values()))[1]
                waits = shut_at_last(waits, state.by_type, windows, store.settings.event_types)
            run = replace(run, state=State.FINISHING, spent=spent, failure=failure, waits=waits)
            if not store.runs.end(run_id, token, **explained(run)):
                return None
        crash_point("close.returned")
        ending = read_ending(store, run)
        record = make_record(store.settings, run, ending)
        workers = record.plan.workers if record.counts.leftover else 0  # the next run needs them again
        crash_point("close.counted")
        added = added_to_totals(record, ending.calls)
        wanted = max(store.settings.workers.min, workers)
        closed = store.runs.close(run_id, record, ending.tally, wanted=wanted, added=added)
        if closed:
            crash_point("close.recorded")
            store.processes.wake("supervisors", "scheduler")
            _log_end(record)
        if closed is not None:
            return record if closed else None
        if not store.runs.end(run_id, token):  # whoever ended it may have died before all was ready again
            return None


def _log_end(record: Record) -> None:
    """Log how a run ended, as a warning if it failed or left events over."""
    counts, is_bad = record.counts, record.state in {State.FAILED, State.PARTIAL} or record.every_call_failed
    done = f"{counts.completed} completed, {counts.failed} failed, {counts.leftover} left over"
    sentences = [f"{record.state} after {record.duration_seconds:.1f} s, {done}", record.failure]
    sentences += [*(cause.sentence for cause in record.why), record.failures]
    sentence, extra = ". ".join(filter(None, sentences)), {"action": "close_run", "run_id": record.run_id}
    log.log(logging.WARNING if is_bad else logging.INFO, "Run %s closed: %s", record.run_id, sentence, extra=extra)


def make_record(settings: Settings, run: Run, ending: Ending) -> Record:
    """Return the record that a run leaves if it is closed as of `ending`.

    By type and in total, `taken + carried_over = completed + failed + leftover`. Of an `ending` without measured calls,
    peaks and durations are not known.
    """
    tally, finished_at = ending.tally, run.moment(ending.now_us)
    counted = (key.partition(":") for key, number in tally.items() if number)
    types = [kind.name for kind in settings.event_types]
    others = {name for what, _, name in counted if what in {"taken", "carried", "completed", "failed"}} - {*types}
    by_type = {name: type_counts(tally, name) for name in [*types, *sorted(others)]}
    for name, each in by_type.items():
        if each.leftover < 0:  # a part of the tally was deleted in mid-run
            by_type[name] = replace(each, taken=each.taken - each.leftover, leftover=0)
    reasons, why = left_over(run, {name: entry.leftover for name, entry in by_type.items()})
    counts = RunCounts(
        **{field: sum(getattr(each, field) for each in by_type.values()) for field in TypeCounts.__struct_fields__},
        invalid=tally.get("invalid", 0),
        duplicates=tally.get("duplicates", 0),
    )
    by_endpoint, by_budget = _called(ending)
    record = Record(
        run_id=run.id,
        state=_final_state(run, counts),
        trigger=run.trigger,
        started_at=isoformat(run.started_at),
        finished_at=isoformat(finished_at),
        deadline=isoformat(run.deadline),
        duration_seconds=round(finished_at - run.started_at, 3),
        window_seconds=run.window_seconds,
        counts=counts,
        by_type=by_type,
        by_endpoint=by_endpoint,
        by_budget=by_budget,
        plan=run.plan or RunPlan(),
        workers=RunWorkers(
            peak=run.workers_peak or int(any(each.calls for each in by_endpoint.values())),  # over before a look
            restarted=ending.restarts - run.restarts_before if run.plan else 0,
        ),
        failure=run.failure,
        troubles=troubles_of(tally, ending.endpoints),
        leftover_by_reason=reasons,
        why=why,
    )
    if not ending.calls or ending.sent is None:
        return record
    begun = sorted(chain(*ending.sent.values(), (call.ended_us - call.milliseconds * 1000 for call in ending.calls)))
    actual = round((max(call.ended_us for call in ending.calls) - begun[0]) / MICROSECONDS, 3)
    used = _used(settings, record, ending, max(actual, (begun[-1] - begun[0]) / MICROSECONDS))
    return replace(record, plan=replace(record.plan, actual_seconds=actual), used=used)


def _final_state(run: Run, counts: RunCounts) -> State:
    if run.failure:
        return State.FAILED
    if run.cancelled:
        return State.CANCELLED
    return State.PARTIAL if counts.leftover else State.COMPLETED


def _called(ending: Ending) -> tuple[dict[str, CallCounts], dict[str, CallCounts]]:
    """Return the calls by endpoint, and by budget."""
    durations: dict[str, list[float]] = {}
    for call in ending.calls:
        durations.setdefault(call.endpoint, []).append(call.milliseconds)
    members = {name: [name] for name in ending.endpoints}
    for name, endpoint in ending.endpoints.items():
        if endpoint.budget:
            members.setdefault(endpoint.budget.name, []).append(name)
    called = {}
    for limited in all_limited(ending.endpoints.values()):
        names, period_us = members[limited.name], round(limited.limit.rules[0].seconds * MICROSECONDS)
        answers = {word: sum(ending.tally.get(f"{what}:{name}", 0) for name in names) for what, word in ANSWERS.items()}
        calls = CallCounts(calls=sum(answers.values()), **answers, limit=limited.limit.text)
        if ending.sent is not None:
            peak, _ = fullest(ending.sent.get(limited.name, ()), period_us)
            milliseconds = sorted(chain.from_iterable(durations.get(name, ()) for name in names))
            p50_ms, p95_ms = quantile(milliseconds, 0.50), quantile(milliseconds, 0.95)
            calls = replace(calls, peak_in_window=peak, p50_ms=p50_ms, p95_ms=p95_ms)
        called[limited.name] = calls
    return {name: called.pop(name) for name in ending.endpoints}, called


def _used(settings: Settings, record: Record, ending: Ending, seconds: float) -> Used:
    """Return the share of lanes and slots that a run used in the `seconds` in which it made calls.

    The slots are those of the endpoints of the types that had events. A window that was open at the start gives a
    period's calls at once, and again after each period, by the rule that allows the fewest.
    """
    with_events = [name for name, entry in record.by_type.items() if entry.taken + entry.carried_over]
    names = {end.name for kind in settings.event_types if kind.name in with_events for end in kind.endpoints}
    guard_seconds = settings.run.guard_seconds
    slots = sum(
        min(rule.amount * (1 + int(seconds / (rule.seconds + guard_seconds))) for rule in limit.rules)
        for limit in (ending.endpoints[name].limit for name in names)
    )
    lane_seconds = record.workers.peak * record.plan.threads * seconds
    busy_seconds = sum(call.milliseconds for call in ending.calls) / 1000
    made = {name: entry.calls for name, entry in record.by_endpoint.items()}
    ages = sorted(call.age_ms / 1000 for call in ending.calls)
    return Used(
        calls_per_minute=round(sum(made.values()) * 60 / seconds, 1) if seconds else 0.0,
        lanes=round(min(1.0, busy_seconds / lane_seconds), 3) if lane_seconds else 0.0,
        slots=round(min(1.0, sum(made[name] for name in names) / slots), 3) if slots else 0.0,
        answered_p50_seconds=round(quantile(ages, 0.50), 3),
        answered_p95_seconds=round(quantile(ages, 0.95), 3),
    )
