"""The end of a run: what is unsettled becomes leftover, and the record is written exactly once, whoever comes first.

The end-of-run actor and the conductor both call `close_run`. The final state follows from the counts, see
`rlm.core.run`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rlm.core.alarms import Alarm, alarm
from rlm.core.endpoint import Budget, Limit, Limited, all_limited
from rlm.core.expected import quantile
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State, make_record
from rlm.core.tally import actual_seconds, away_in_words, every_call_failed, in_words, of_run, troubles_of, with_trouble
from rlm.core.text import span
from rlm.core.window import most_in_any
from rlm.delivery.outcome import DEADLINE
from rlm.ledger import Store
from rlm.ledger.breaker import ALARMING, raised_alarm
from rlm.ledger.reading.books import ANSWERS, Ending, read_ending
from rlm.ledger.runs import write_waits
from rlm.plan.cause import Ended, alarmed, causes, verdict
from rlm.plan.waits import Waits

#: Why a run failed at whose deadline Redis could not be told of anything.
REDIS_AWAY = "Redis was away, or not fit, past the deadline"

log = logging.getLogger(__name__)


def close_run(
    store: Store, run_id: str, *, overdue: bool = False, keep: Callable[[], object] = lambda: None
) -> dict[str, Any] | None:
    """Close the run if it is finishing; return its record, or None if it is not open or not finishing.

    `overdue`: its conductor has not closed it in time, and whoever does so now sees to what follows. `keep` is called
    between steps that may take long, to prolong the lease of whoever leads.

    Closing is one compare-and-set in Redis: whoever is second changes nothing. Once all events are pending again
    nothing can settle any more, so the counts read then are the last.
    """
    while True:
        run, now_us = store.runs.current_at()
        if run is None or run.id != run_id or run.state is not State.FINISHING:
            return None
        types = store.known_types
        keep()
        while store.recovery.orphan_expired(types, now_us, closing=True):
            keep()  # what is noted of calls that nobody will report any more would else stay
        keep()
        if not store.recovery.return_unsettled(run_id, types):
            return None
        crash_point("close.returned")
        keep()
        found = read_ending(store, run)
        keep()
        record = _final_record(store, run, found) | ({"overdue": True} if overdue else {})
        kept = record["plan"]["workers"] if record["counts"]["leftover"] else 0  # the next run will need them again
        types_with_alarm = _types_with_alarm(store, run, found)
        crash_point("close.counted")
        closed = store.runs.close(
            run_id,
            record,
            types,
            wanted=max(store.settings.workers.min, kept),
            measured=store.measures.encode(found.kept),
            added=of_run(record, found.calls),
        )
        if closed:
            crash_point("close.recorded")
            store.processes.wake("supervisors", "scheduler")
            _log_end(record, types_with_alarm, again=_is_as_before(run, record))
            return record
        if closed is not None:
            return None


def close_overdue(store: Store, run: Run, failure: str = "") -> dict[str, Any] | None:
    """Close a run whose deadline is over in place of its conductor; return its record, or None if another closed it.

    The conductor is deposed, unless it has had the run finish: then all is known that a record tells.
    """
    if run.state is not State.FINISHING:
        counts = store.ledger.count(store.known_types)
        waits = Waits.read(run.waits, run.opened_at)
        waiting = [name for name, count in counts.items() if count.pending]
        waits.stand_still(run.deadline, waiting, begun=run.first_release_at is not None)
        fields = write_waits(waits.as_json(), counts, store.intake.untaken(run.id)[0])
        fields |= {"failure": failure} if failure else {}
        if store.runs.end_overdue(run.id, **fields):
            told = "Run %s was not closed by its deadline: its conductor is deposed, and it is closed here"
            log.warning(told, run.id, extra={"action": "close_overdue", "run_id": run.id})
    return close_run(store, run.id, overdue=True)


def record_so_far(store: Store, run: Run, now_us: int, *, measured: bool = True) -> dict[str, Any]:
    """Return the record that an open run would leave if it were closed at `now_us`.

    Without `measured` its peaks and durations, which take longer to read the longer it goes on, are left at 0.
    """
    return _record(store, run, read_ending(store, run, measured=measured), now_us)


def _final_record(store: Store, run: Run, found: Ending) -> dict[str, Any]:
    """Return the record of a run that is being closed, with what only its end can tell."""
    record = _record(store, run, found, found.now_us)
    if (actual := actual_seconds(found.calls, _released_us(run))) is not None:
        record["plan"]["actual_seconds"] = actual
        record["used"] = _used(store, record, found, actual + _failing_on_seconds(record, found))
    if why := causes(_ended(store, run, record, found)):
        record["why"] = [one.as_json() for one in why]
    return record


def _record(store: Store, run: Run, found: Ending, now_us: int) -> dict[str, Any]:
    record = make_record(
        run,
        found.tally,
        [event_type.name for event_type in store.settings.event_types],
        _called(found),
        finished_at=run.moment(now_us),
        restarted=found.restarts - run.restarts_before if run.plan else 0,
    )
    waiting = [kind for kind in store.settings.event_types if record["by_type"][kind.name]["leftover"]]
    wanted = {one.name for kind in waiting for one in kind.endpoints}
    unreached = {name: what for name, what in found.unreached.items() if name in wanted}
    if troubles := troubles_of(found.tally, found.endpoints, unreached):
        record["troubles"] = troubles
    if too_high := [one.as_json() for one in found.too_high if one.refusals.at >= run.started_at]:
        record["limits_too_high"] = too_high
    return record


def _called(found: Ending) -> dict[str, dict[str, Any]]:
    """Return what a record has of endpoints and, if there are any, of budgets, which have the sums of theirs."""
    durations: dict[str, list[float]] = {}
    for call in found.calls:
        durations.setdefault(call.endpoint, []).append(call.milliseconds)
    by_endpoint = {}
    sharing: dict[Budget, list[str]] = {}
    for name, endpoint in found.endpoints.items():
        milliseconds = sorted(durations.get(name, []))
        figures = {"p50_ms": quantile(milliseconds, 0.50), "p95_ms": quantile(milliseconds, 0.95)}
        by_endpoint[name] = _calls(found, endpoint, [name]) | figures
        if endpoint.budget:
            sharing.setdefault(endpoint.budget, []).append(name)
    by_budget = {budget.name: _calls(found, budget, names) for budget, names in sharing.items()}
    return {"by_endpoint": by_endpoint, **({"by_budget": by_budget} if by_budget else {})}


def _calls(found: Ending, limited: Limited, names: Sequence[str]) -> dict[str, Any]:
    """Return the calls of a run by answer, those of the endpoints `names`, and the most within a period of a limit.

    `limit_before` is the limit that the run began with, if that was another.
    """
    answers = {word: sum(found.tally.get(f"{what}:{name}", 0) for name in names) for what, word in ANSWERS.items()}
    before = found.limits_before.get(limited.window_id) or found.limits_before.get(limited.name)
    return {
        "calls": sum(answers.values()),
        **answers,
        "peak_in_window": _peak(found, limited),
        "limit": limited.limit.text,
        **({"limit_before": before} if before else {}),
    }


def _peak(found: Ending, limited: Limited) -> int:
    """Return the most calls that a run sent within one period of the first rule of an endpoint or a budget."""
    return most_in_any(found.sent.get(limited.name, ()), round(limited.limit.rules[0].seconds * 1_000_000))


def _released_us(run: Run) -> int | None:
    """Return when the run's first event was released, microseconds by the clock of Redis as it is now."""
    if run.first_release_at is None:
        return None
    return run.deadline_us - round((run.deadline - run.first_release_at) * 1_000_000)


def _failing_on_seconds(record: Mapping[str, Any], found: Ending) -> float:
    """Return for how long after its last completed call a run sent calls that were not answered well, seconds."""
    failing_at = [name for name, one in record["by_endpoint"].items() if one["errors"] + one["throttled"]]
    sent = [moment for name in failing_at for moment in found.sent.get(name, ())]
    return max(0, max(sent, default=0) - max(call.at_us for call in found.calls)) / 1_000_000


def _used(store: Store, record: Mapping[str, Any], found: Ending, seconds: float) -> dict[str, Any]:
    """Return how much of its lanes and slots a run used in the `seconds` in which it called.

    Slots are those of the endpoints of the types that it had events of.
    """
    with_events = [name for name, entry in record["by_type"].items() if entry["taken"] + entry["carried_over"]]
    names = {end.name for kind in store.settings.event_types if kind.name in with_events for end in kind.endpoints}
    guard_seconds = store.settings.run.guard_seconds
    made = {name: entry["calls"] for name, entry in record["by_endpoint"].items()}
    lanes = record["workers"]["peak"] * record["plan"]["threads"]
    ages = sorted(call.age_ms / 1000 for call in found.calls)
    busy = sum(call.milliseconds for call in found.calls) / 1000
    slots = sum(_slots(found.endpoints[name].limit, seconds, guard_seconds) for name in names) if seconds else 0
    return {
        "calls_per_minute": round(sum(made.values()) * 60 / seconds, 1) if seconds else 0.0,
        "lanes": round(min(1.0, busy / (lanes * seconds)), 3) if lanes and seconds else 0.0,
        "slots": round(min(1.0, sum(made.get(name, 0) for name in names) / slots), 3) if slots else 0.0,
        "answered_p50_seconds": round(quantile(ages, 0.50), 3),
        "answered_p95_seconds": round(quantile(ages, 0.95), 3),
    }


def _slots(limit: Limit, seconds: float, guard_seconds: float) -> int:
    """Return the slots that a window, open at the start, has in so many seconds: by the rule that allows the fewest."""
    return min(rule.amount * (1 + int(seconds / (rule.seconds + guard_seconds))) for rule in limit.rules)


def _ended(store: Store, run: Run, record: Mapping[str, Any], found: Ending) -> Ended:
    limits = {one.name: one.limit.text for one in all_limited(found.endpoints.values())}
    for kind in store.settings.event_types:
        limits.setdefault(kind.name, found.endpoints[kind.endpoints[0].name].limit.text)
    leftover = {name: entry["leftover"] for name, entry in record["by_type"].items()}
    return Ended(
        leftover=leftover,
        spent=run.spent or {},
        cut=with_trouble(DEADLINE, found.tally, store.settings.event_types, leftover),
        waits=Waits.read(run.waits, run.opened_at),
        window_seconds=run.window_seconds,
        limits=limits,
        cancelled=run.cancelled,
        failure=run.failure,
        stopped=run.stopped,
    )


def _types_with_alarm(store: Store, run: Run, found: Ending) -> set[str]:
    """Return the types of which an endpoint has raised an alarm, for its failures or for its limit."""
    refusing = {one.endpoint.name for one in found.too_high if one.refusals.calls >= ALARMING}
    names = raised_alarm(found.health, run.started_at) | refusing
    return {kind.name for kind in store.settings.event_types if any(one.name in names for one in kind.endpoints)}


def _is_as_before(run: Run, record: Mapping[str, Any]) -> bool:
    """Return whether a run that opened late could do nothing: the run before reported what is left over."""
    calls = sum(one["calls"] for one in record["by_endpoint"].values())
    return bool(run.late) and not calls and not record["counts"]["taken"]


def _log_end(record: Mapping[str, Any], types_with_alarm: Collection[str], *, again: bool = False) -> None:
    """Log how a run ended: an alarm if events were left over and no other alarm stands for it.

    `again`: all that is left over was so when the run before ended.
    """
    level, extra = logging.INFO, {"action": "close_run", "run_id": record["run_id"]}
    counts = {key: record["counts"][key] for key in ("taken", "carried_over", "completed", "failed", "leftover")}
    if record["state"] == State.FAILED:
        level, extra = logging.ERROR, alarm(Alarm.RUN_FAILED, "close_run", counts=counts, run_id=record["run_id"])
    elif record["state"] == State.PARTIAL and not again and not alarmed(record.get("why", ()), types_with_alarm):
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
