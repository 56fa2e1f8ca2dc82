"""The end of a run: what is unsettled becomes leftover, the record is written, exactly once, whoever comes first."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from rlm.core.alarms import Alarm, alarm
from rlm.core.compliance import most_in_any
from rlm.core.endpoint import all_limited
from rlm.core.expected import merge_run, quantile
from rlm.core.failpoints import crash_point
from rlm.core.run import Called, Run, State, make_record
from rlm.core.text import span
from rlm.core.totals import actual_seconds, of_run
from rlm.core.trouble import away_in_words, every_call_failed, in_words, troubles_of
from rlm.delivery.usage import usage
from rlm.ledger.breaker import ALARMING, limits_too_high
from rlm.ledger.control import What
from rlm.ledger.measures import failing
from rlm.plan.cause import Ended, alarmed, causes, verdict
from rlm.plan.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rlm.core.endpoint import Endpoint, Limited
    from rlm.core.expected import Completed
    from rlm.ledger import Store

#: How a call may have been answered, as it is counted by endpoint.
_ANSWERS = ("delivered", "throttled", "errors")

log = logging.getLogger(__name__)


def close_run(store: Store, run_id: str) -> dict[str, Any] | None:
    """Close the run if it is finishing; return its record, or None when it is not open or not finishing.

    The end-of-run actor and the conductor both call this. Closing is one compare-and-set in Redis: the second one
    changes nothing. Nothing can settle any more once all events are pending again, so the counts read are the last.
    """
    while True:
        run = store.runs.current()
        if run is None or run.id != run_id or run.state is not State.FINISHING:
            return None
        types = store.known_types
        while store.recovery.orphan_expired(types, store.now_us(), closing=True):
            continue  # else what is noted of calls that nobody will report any more would stay
        if not store.runs.return_unsettled(run_id, types):
            return None
        crash_point("close.returned")
        tally = store.runs.tally(run_id)
        calls = store.measures.completed(run_id)
        record = record_so_far(store, run, tally, store.now_us())
        if (actual := actual_seconds(calls, _released_us(run))) is not None:
            record["plan"]["actual_seconds"] = actual
            record["used"] = _used(store, record, calls, actual + _failing_on_seconds(store, run, record, calls))
        if found := causes(_ended(store, run, record)):
            record["why"] = [one.as_json() for one in found]
        kept = record["plan"]["workers"] if record["counts"]["leftover"] else 0  # the next run will need them again
        wanted = max(store.settings.workers.min, kept)
        types_with_alarm = types_told(store, run.started_at)  # before it is closed: what fails then is done again
        measured = merge_run(store.measures.kept(), calls, failing(tally))
        crash_point("close.counted")
        closed = store.runs.close(
            run_id,
            record,
            types,
            wanted=wanted,
            measured=store.measures.encode(measured),
            added=of_run(record, calls),
        )
        if closed:
            crash_point("close.recorded")
            store.processes.wake("supervisors")
            store.processes.wake("scheduler")
            _tell(record, types_with_alarm, again=_is_as_before(run, record))
            return record
        if closed is not None:
            return None


def _released_us(run: Run) -> int | None:
    """Return when the run's first event was released, microseconds by the clock of Redis as it is now."""
    if run.first_release_at is None:
        return None
    return run.deadline_us - round((run.deadline - run.first_release_at) * 1_000_000)


def _used(store: Store, record: Mapping[str, Any], calls: Sequence[Completed], seconds: float) -> dict[str, Any]:
    """Return what a run used, in the `seconds` in which it called, of the types that it had events of."""
    endpoints = store.endpoints()
    with_events = [name for name, entry in record["by_type"].items() if entry["taken"] + entry["carried_over"]]
    limits = {
        each.name: endpoints[each.name].limit
        for kind in store.settings.event_types
        if kind.name in with_events
        for each in kind.endpoints
    }
    return usage(
        calls,
        {name: entry["calls"] for name, entry in record["by_endpoint"].items()},
        limits,
        lanes=record["workers"]["peak"] * record["plan"]["threads"],
        seconds=seconds,
        guard_seconds=store.settings.run.guard_seconds,
    )


def _failing_on_seconds(store: Store, run: Run, record: Mapping[str, Any], calls: Sequence[Completed]) -> float:
    """Return for how long after its last completed call a run sent calls that were not answered well, seconds."""
    endpoints = store.endpoints()
    failing_at = [name for name, one in record["by_endpoint"].items() if one["errors"] + one["throttled"]]
    sent = [moment for name in failing_at for moment in _sent(store, run, endpoints[name])]
    return max(0, max(sent, default=0) - max(call.at_us for call in calls)) / 1_000_000


def _ended(store: Store, run: Run, record: Mapping[str, Any]) -> Ended:
    """Gather what is known of a run at its end."""
    endpoints = store.endpoints()
    limits = {one.name: one.limit.text for one in all_limited(endpoints.values())}
    for kind in store.settings.event_types:
        limits.setdefault(kind.name, endpoints[kind.endpoints[0].name].limit.text)
    return Ended(
        leftover={name: entry["leftover"] for name, entry in record["by_type"].items()},
        spent=run.spent or {},
        waits=Waits.read(run.waits, run.opened_at),
        window_seconds=run.window_seconds,
        limits=limits,
        cancelled=run.cancelled,
        failure=run.failure,
        stopped=run.stopped,
    )


def record_so_far(
    store: Store, run: Run, tally: Mapping[str, int], now_us: int, *, measured: bool = True
) -> dict[str, Any]:
    """Write the record that an open run, whose counts are `tally`, would leave if it were closed at `now_us`.

    Without `measured` its peaks and durations, which take longer to read the longer it goes on, are left at 0.
    """
    names = [event_type.name for event_type in store.settings.event_types]
    restarted = store.processes.restarts() - run.restarts_before if run.plan else 0
    endpoints = store.endpoints()
    called = _endpoints_called(store, run, tally, endpoints, measured=measured)
    record = make_record(
        run,
        tally,
        names,
        called,
        finished_at=run.moment(now_us),
        restarted=restarted,
        budgets=_budgets_called(store, run, endpoints, called, measured=measured),
    )
    if troubles := troubles_of(tally, endpoints):
        record["troubles"] = troubles
    if too_high := limits_too_high(store, run.started_at, endpoints):
        record["limits_too_high"] = [one.as_json() for one in too_high]
    return record


def _endpoints_called(
    store: Store, run: Run, tally: Mapping[str, int], endpoints: Mapping[str, Endpoint], *, measured: bool
) -> dict[str, Called]:
    durations: dict[str, list[float]] = {}
    for call in store.measures.completed(run.id) if measured else ():
        durations.setdefault(call.endpoint, []).append(call.milliseconds)
    before = _limits_before(store, run) if measured else {}
    called = {}
    for name, endpoint in endpoints.items():
        answers = {what: tally.get(f"{what}:{name}", 0) for what in _ANSWERS}
        milliseconds = sorted(durations.get(name, []))
        called[name] = Called(
            **answers,
            limit=endpoint.limit.text,
            limit_before=before.get(name, ""),
            peak=_peak(store, run, endpoint) if measured and any(answers.values()) else 0,
            p50_ms=quantile(milliseconds, 0.50),
            p95_ms=quantile(milliseconds, 0.95),
        )
    return called


def _limits_before(store: Store, run: Run) -> dict[str, str]:
    """Return by name the limits that endpoints and budgets had when the run began, of those changed since."""
    began_at = (run.deadline_us / 1_000_000) - run.window_seconds
    changed = [one for one in store.changes.newest() if one.what is What.LIMIT and one.at >= began_at]
    return {one.name: one.before for one in changed if one.before}  # they come newest first: the first change stays


def _budgets_called(
    store: Store, run: Run, endpoints: Mapping[str, Endpoint], called: Mapping[str, Called], *, measured: bool
) -> dict[str, Called]:
    before = _limits_before(store, run) if measured else {}
    found = {}
    for budget in {one.budget.name: one.budget for one in endpoints.values() if one.budget}.values():
        members = [called[name] for name, one in endpoints.items() if one.budget == budget]
        answers = {what: sum(getattr(one, what) for one in members) for what in _ANSWERS}
        peak = _peak(store, run, budget) if measured and any(answers.values()) else 0
        found[budget.name] = Called(
            **answers, limit=budget.limit.text, limit_before=before.get(budget.name, ""), peak=peak
        )
    return found


def _peak(store: Store, run: Run, limited: Limited) -> int:
    """Count the most calls that a run sent within one period of the first rule of an endpoint or a budget."""
    return most_in_any(_sent(store, run, limited), round(limited.limit.rules[0].seconds * 1_000_000))


def _sent(store: Store, run: Run, limited: Limited) -> list[int]:
    """Return when a run sent calls to an endpoint or a budget, microseconds of Redis time, oldest first."""
    began_us = run.deadline_us - round(run.window_seconds * 1_000_000)
    rule = limited.limit.rules[0]
    number = rule.amount * (2 + math.ceil(run.window_seconds / rule.seconds))
    return [moment for moment in store.windows.sent(limited, number) if moment >= began_us]


def types_told(store: Store, since: float) -> set[str]:
    """Name the types of which an endpoint has raised an alarm, for its failures or for its limit."""
    refusing = {one.endpoint.name for one in limits_too_high(store) if one.refusals.calls >= ALARMING}
    endpoints = store.breaker.alarmed(list(store.endpoints().values()), since) | refusing
    return {kind.name for kind in store.settings.event_types if any(one.name in endpoints for one in kind.endpoints)}


def _is_as_before(run: Run, record: Mapping[str, Any]) -> bool:
    """Return whether a run that opened late could do nothing: what is left over the run before has told of."""
    calls = sum(one["calls"] for one in record["by_endpoint"].values())
    return bool(run.late) and not calls and not record["counts"]["taken"]


def _tell(record: Mapping[str, Any], types: Collection[str], *, again: bool = False) -> None:
    """Log how a run ended: an alarm where events were left over and no other alarm stands for it.

    `types` are those whose endpoints have raised an alarm, as `types_told` has it; `again`: all that is left over was
    so when the run before ended.
    """
    level, extra = logging.INFO, {"action": "close_run", "run_id": record["run_id"]}
    counts = {key: record["counts"][key] for key in ("taken", "carried_over", "completed", "failed", "leftover")}
    if record["state"] == State.FAILED:
        level, extra = logging.ERROR, alarm(Alarm.RUN_FAILED, "close_run", counts=counts, run_id=record["run_id"])
    elif record["state"] == State.PARTIAL and not again and not alarmed(record.get("why", ()), types):
        level, extra = logging.WARNING, alarm(Alarm.LEFTOVERS, "close_run", counts=counts, run_id=record["run_id"])
    elif every_call_failed(record):
        level = logging.WARNING
    log.log(level, "Run %s closed: %s", record["run_id"], _sentence(record), extra=extra)


def _sentence(record: Mapping[str, Any]) -> str:
    counts = record["counts"]
    why = f" ({record['failure']})" if record.get("failure") else ""
    parts = [f"{record['state']}{why} after {span(record['duration_seconds'])}"]
    parts += [
        f"{counts[key]} {key}" for key in ("completed", "failed", "leftover") if counts[key] or key == "completed"
    ]
    sentences = [away_in_words(record), verdict(record.get("why", ())), in_words(record.get("troubles", ()))]
    return ". ".join([", ".join(parts), *filter(None, sentences)])
