"""Sentences about a status document or a record: the verdict, figures, plan and result, workers."""

from __future__ import annotations

import math
from collections import Counter
from enum import StrEnum
from typing import NamedTuple

from rlm.admin.conditions import stops
from rlm.core.clock import timestamp
from rlm.core.documents import (
    Condition,
    EndpointView,
    IdleStatus,
    Installation,
    LiveCallCounts,
    LiveTypeCounts,
    Now,
    Record,
    RunCounts,
    RunDocument,
    RunForecast,
    RunStatus,
    TypeCounts,
    WorkerNow,
)
from rlm.core.endpoint import RECOVERING
from rlm.core.run import State
from rlm.core.text import capital, counted, done_after, of_another_configuration, safe_line, sentence, span

#: An open run is called overdue if it is not closed so many seconds after its deadline.
OVERDUE_SECONDS = 1.0


class Counted(NamedTuple):
    """How many events of a run, or of one of its types, are in each state."""

    total: int
    completed: int
    failed: int
    under_way: int

    @property
    def waiting(self) -> int:
        """The events that are neither settled nor in flight."""
        return self.total - self.completed - self.failed - self.under_way


def is_planned(found: RunStatus | Record) -> bool:
    """Return whether the run of a document has got as far as its plan.

    Else a status has none, and the figures of a record are all 0.
    """
    return bool(found.plan and found.plan.threads)


def clock(moment: str) -> str:
    """Return the time of day (UTC) of an ISO 8601 text."""
    return moment[11:19]


def counts_of(entry: TypeCounts) -> Counted:
    """Return the counts of a type from its entry in a status or record."""
    under_way = entry.inflight if isinstance(entry, LiveTypeCounts) else 0
    return Counted(entry.taken + entry.carried_over, entry.completed, entry.failed, under_way)


def counts_in_all(found: RunDocument) -> Counted:
    """Return the counts of a run."""
    each = [counts_of(entry) for entry in found.by_type.values()]
    return Counted(*map(sum, zip((0, 0, 0, 0), *each, strict=True)))


def countdown(found: RunStatus) -> str:
    """Return how much of its window an open run has left, or for how long it is overdue."""
    return f"{left_of(found)} of {span(found.window_seconds)}"


def left_of(found: RunStatus) -> str:
    """Return how long an open run has left, or for how long it is overdue."""
    overdue = overdue_seconds(found)
    return f"{span(overdue)} past the deadline" if overdue else f"{span(found.seconds_left)} left"


def overdue_seconds(found: RunStatus) -> float:
    """Return for how long an open run is overdue; 0 if it is not."""
    overdue = 0.0 if found.seconds_left else timestamp(found.as_of) - timestamp(found.deadline)
    return overdue if overdue > OVERDUE_SECONDS else 0.0


#: The expectation for a run that has no forecast yet, or needs none any more.
_PHASES = {
    State.DRAINING: "taking the items off the audit list; the forecast comes with the plan",
    State.PLANNING: "planning: counts and windows become workers and a forecast",
    State.FINISHING: "finishing: calls under way are awaited, nothing more is sent",
}


class Expectation(NamedTuple):
    """The forecast of an open run: when it is done, what is left over, what binds, and whether everything `fits`.

    `when` and `leftover` are the two parts of `words`; `leftover` is empty if everything fits.
    """

    words: str
    binds: str
    fits: bool
    when: str = ""
    leftover: str = ""


def forecast(found: RunStatus) -> Expectation:
    """Return the present forecast of an open run."""
    expected = expected_of(found)
    phase = _PHASES.get(State(found.state), "")
    if phase or expected is None:
        return Expectation(phase or _PHASES[State.PLANNING], "", fits=True)
    if halted(found):
        waiting = counts_in_all(found).waiting
        wait = f"; {counted(waiting, 'event')} {'waits' if waiting == 1 else 'wait'}" if waiting > 0 else ""
        return Expectation(f"nothing more is sent{wait}", "", fits=False)
    when, left = _done(found, expected), f"{counted(expected.expected_leftover, 'event')} will be left over"
    alone = left
    if not expected.expected_leftover:
        return Expectation(f"{when}; all of it fits", "", fits=True, when=when)
    if _awaits_probe(found, expected):
        when = "waits for an endpoint to answer well, at most until the deadline"
        left, alone = f"if none does, {left}", f"up to {left}"
    return Expectation(f"{when}; {left}", expected.binds, fits=False, when=when, leftover=alone)


def _awaits_probe(found: RunStatus, expected: RunForecast) -> bool:
    """Return whether the rest of the run depends on endpoints that rest or are probed."""
    if expected.shortage and not expected.workers:
        return False
    recovering = any(entry.health in RECOVERING for entry in found.by_endpoint.values())
    return recovering and expected.forecast_seconds <= (found.called_seconds or 0.0)


def _done(found: RunStatus, expected: RunForecast) -> str:
    """Return when the last event that fits is answered."""
    called, forecast_seconds = found.called_seconds, expected.forecast_seconds
    if expected.shortage and not expected.workers:
        return "nothing is being sent"
    if called is None:
        after = f"{done_after(forecast_seconds)}, which has yet to come"
        return after if forecast_seconds else "no call is expected to begin"
    if (to_go := forecast_seconds - called) <= 0:
        return "no more answers are expected in time" if expected.expected_leftover else "done any moment now"
    if expected.expected_leftover:  # it does not finish, so no time is to spare
        return f"the last answer comes in {span(to_go)}"
    return f"finishes in {span(to_go)} ({span(spare_seconds(found))} to spare)"


def spare_seconds(found: RunStatus) -> float | None:
    """Return how many seconds before its deadline an open run should be done; None before its first call."""
    expected, called = expected_of(found), found.called_seconds
    if called is None or not expected:
        return None
    to_go = expected.forecast_seconds - called
    return float(max(0.0, found.seconds_left - max(0.0, to_go)))


def progress(found: RunStatus) -> str:
    """Return how much of an open run is done, its rate of calls, and how many calls failed."""
    counts = counts_in_all(found)
    dead = [counted(counts.failed, "dead letter")] if counts.failed else []
    done = f"{counts.completed:,} of {counted(counts.total, 'event')} done"
    return ", ".join([done, *to_take(found), *dead, *_calling(found)])


def to_take(found: RunStatus) -> list[str]:
    """Return how many items an open run has still to take, which no count of events includes; nothing if none."""
    number = found.to_take
    return [f"{counted(number, 'item')} still to take"] if number else []


def calls_in_all(found: RunDocument) -> list[int]:
    """Return how many calls of a run were made, failed and were throttled."""
    each = [(entry.calls, entry.errors, entry.throttled) for entry in found.by_endpoint.values()]
    return [sum(numbers) for numbers in zip((0, 0, 0), *each, strict=True)]


def calls_a_minute(found: RunStatus) -> float:
    """Return the calls per minute of an open run since its first call; 0 before it."""
    called = found.called_seconds
    return calls_in_all(found)[0] * 60 / called if called else 0.0


def _calling(found: RunStatus) -> list[str]:
    """Return the rate of calls of a run, and how many failed or were throttled."""
    _, errors, throttled = calls_in_all(found)
    calling = [f"{rate:,.0f} calls a minute"] if (rate := calls_a_minute(found)) else []
    calling += [counted(errors, "error")] if errors else []
    return calling + ([f"{throttled:,} throttled"] if throttled else [])


def summary(record: Record) -> str:
    """Return the result of a run in one line."""
    failure = f" ({safe_line(record.failure)})" if record.failure else ""
    return f"{record.state} after {span(record.duration_seconds)}{failure}: {outcome(record.counts)}"


def outcome(counts: RunCounts) -> str:
    """Return the result of a run's events."""
    return f"{counts.completed:,} completed, {counts.failed:,} failed, {counts.leftover:,} left over"


def looked_at(place: Installation) -> str:
    """Return which installation a view looks at."""
    return f"{place.config or 'the built-in defaults'}, Redis {place.redis}, prefix {place.prefix}"


def expected_of(found: RunStatus) -> RunForecast | None:
    """Return the present forecast of an open run, or else its plan in the same form."""
    if found.forecast or not found.plan:
        return found.forecast
    plan = found.plan
    return RunForecast(
        as_of=found.as_of,
        forecast_seconds=plan.forecast_seconds,
        expected_leftover=plan.expected_leftover,
        workers=plan.workers,
        binds=plan.binds,
    )


def halted(found: RunStatus | IdleStatus) -> str:
    """Return why nothing is delivered now, the worst condition; empty if something is."""
    return next((each.sentence for each in found.conditions if stops(each)), "")


def told(condition: Condition) -> str:
    """Return a condition in one line, with its remedy."""
    return f"{condition.sentence}: {condition.remedy}"


def next_slot(entry: EndpointView | LiveCallCounts) -> str:
    """Return when an endpoint has a free slot: `now`, a duration, or a dash if that is not known.

    A duration has at most six characters, in whole units rounded up: `2 s`, `12 min`.
    """
    seconds = entry.next_slot_seconds
    if seconds is None:
        return "-"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds > length:
            return f"{math.ceil(seconds / length)} {unit}"
    return "now" if seconds <= 0 else f"{math.ceil(seconds)} s"


def doing(worker: WorkerNow) -> str:
    """Return what a worker does: its state, or the endpoints that it calls."""
    if worker.other_configuration:
        return "another configuration"
    if worker.state != "ready":
        return str(worker.state)
    names = Counter(safe_line(call.endpoint or "waiting for a slot") for call in worker.calls)
    return ", ".join(f"{name} x{number}" if number > 1 else name for name, number in names.items()) or "idle"


def workers(found: RunStatus) -> str:
    """Return how many workers are ready, how many lanes are busy, and how many workers were replaced."""
    one = found.workers
    if not one.wanted and not one.now:
        return "no worker is wanted yet"
    lanes, busy = sum(each.threads for each in one.each), sum(each.busy for each in one.each)
    parts = [f"{workers_ready(found)} of {one.wanted} ready, {busy} of {lanes} lanes busy"]
    other = one.other_configuration
    parts += [of_another_configuration(other)] if other else []
    return "; ".join([*parts, f"{one.restarted} had to be replaced"] if one.restarted else parts)


def workers_ready(found: RunStatus) -> int:
    """Return how many workers are ready to claim events of this run; those of another configuration never do."""
    team = found.workers
    return max(0, team.ready - team.other_configuration)


def line(found: RunStatus) -> str:
    """Return the status of an open run in one line, for output without a terminal."""
    counts = counts_in_all(found)
    words = [f"run {found.run_id} {found.state}: {counts.completed:,} of {counts.total:,} completed"]
    words += [f"{counts.under_way:,} under way, {counts.waiting:,} waiting, {counts.failed:,} failed"]
    words += to_take(found)
    words += [", ".join(calling)] if (calling := _calling(found)) else []
    words += [f"workers {workers(found)}", countdown(found), forecast(found).words, *map(told, found.conditions)]
    return "; ".join(words)


class Level(StrEnum):
    """How good or bad a verdict is."""

    WELL = "well"
    REST = "rest"  # nothing happens, and nothing needs to
    WARN = "warn"  # it continues, but not as wanted
    BAD = "bad"  # it does not continue, or a run has failed


class Verdict(NamedTuple):
    """A sentence without its full stop, its level, details in further sentences, and the endpoint that it is about."""

    level: Level
    words: str
    more: str = ""
    endpoint: str = ""


def verdict(found: Now) -> Verdict:
    """Return the verdict on the result of `report.overview`: its worst condition, else its forecast or its last run."""
    worst = next((each for each in found.conditions if each.severity != "info"), None)
    expected = forecast(found) if isinstance(found, RunStatus) else None
    if worst:
        level, then = Level.BAD if worst.severity == "error" else Level.WARN, expected.words if expected else ""
        endpoint = worst.subject if worst.subject in found.by_endpoint else ""
        return Verdict(level, worst.sentence, _joined(worst.remedy, then), endpoint)
    if isinstance(found, RunStatus) and expected:
        if not expected.fits:
            return Verdict(
                Level.WARN, capital(expected.leftover or expected.words), _joined(expected.when, expected.binds)
            )
        if found.state != State.RUNNING:
            return Verdict(Level.WELL, capital(expected.words))
        spare = spare_seconds(found)
        on_track = expected.when if spare is None else f"finishes {span(spare)} before the deadline"
        return Verdict(Level.WELL, f"On track, {on_track}", _joined(progress(found)))
    last = None if isinstance(found, RunStatus) else found.last_record
    if last is None:
        return Verdict(Level.REST, "At rest; no run has finished yet", "`rlm start` starts one.")
    left = f"left {counted(last.counts.leftover, 'event')} over" if last.counts.leftover else "left nothing over"
    level = Level.WARN if last.counts.leftover else Level.REST
    return Verdict(level, f"At rest; the last run {left}", _joined(summary(last)))


def _joined(*clauses: str) -> str:
    """Return clauses as sentences on one line."""
    return " ".join(sentence(safe_line(clause)) for clause in clauses if clause)


def against_plan(found: RunStatus | Record) -> dict[str, str]:
    """Return what was `planned` for a run and, once it has ended, what happened `in fact`; nothing before the plan."""
    plan, team = found.plan, found.workers
    if plan is None or not is_planned(found):
        return {}
    parts = counted(plan.workers, "worker"), done_after(plan.forecast_seconds), _left(plan.expected_leftover)
    told = {"planned": ", ".join(parts)}
    if isinstance(found, Record):
        actual = (
            f"done {span(plan.actual_seconds)} after it" if plan.actual_seconds is not None else "no call completed"
        )
        left = _left(found.counts.leftover)
        told["in fact"] = f"{counted(team.peak, 'worker')}, {actual}, {left}; {team.restarted} replaced"
    return told


def _left(number: int) -> str:
    return f"{number:,} left over" if number else "nothing left over"


def used(record: Record) -> str:
    """Return the utilisation of a run and the age of its answers; '' if they are not known."""
    one = record.used
    if not one.calls_per_minute:
        return ""
    ages = f"{span(one.answered_p50_seconds)}, 19 of 20 in {span(one.answered_p95_seconds)}"
    return (
        f"{one.calls_per_minute:,.0f} calls a minute; {one.lanes:.0%} of the lanes' time and {one.slots:.0%} "
        f"of the slots used; half were answered in {ages} from intake"
    )


def troubles(found: RunStatus | Record) -> list[str]:
    """Return why a run left events over, how long Redis was away, its failed calls and dead letters."""
    why = found.why if isinstance(found, Record) else ()
    wrong = [*(safe_line(cause.sentence) for cause in why), found.away]
    wrong += call_troubles(found)
    failed, invalid = found.counts.failed, found.counts.invalid
    if dead := failed + invalid:
        became = "1 became a dead letter" if dead == 1 else f"{dead:,} became dead letters"
        some = f"{invalid:,} of them " if failed else ""
        at_intake = f", {some}at intake, which counts as invalid and not as failed" if invalid else ""
        wrong.append(f"{became}{at_intake}: `rlm failed list` says why")
    return [*filter(None, wrong)]


def call_troubles(found: RunDocument) -> list[str]:
    """Return how many calls failed or were throttled, and why."""
    why = found.failures
    return [f"{number}{f': {safe_line(why)}' if why else ''}"] if (number := _failed(found)) else []


def _failed(found: RunDocument) -> str:
    """Return how many calls of a run failed or were throttled; '' if none."""
    calls, errors, throttled = calls_in_all(found)
    became = " or ".join(word for word, number in (("failed", errors), ("were throttled", throttled)) if number)
    return f"{errors + throttled:,} of {counted(calls, 'call')} {became}" if became else ""
