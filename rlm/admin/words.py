"""Sentences about a status document or a record: the verdict, figures, plan and result, workers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from rlm.admin.conditions import stops
from rlm.admin.text import capital, done_after, span
from rlm.core import documents
from rlm.core.run import State
from rlm.core.text import counted, safe_line


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


def clock(moment: str) -> str:
    """Return the time of day (UTC) of an ISO 8601 text."""
    return moment[11:19]


def counts_of(entry: documents.TypeCounts) -> Counted:
    """Return the counts of a type from its entry in a status or record."""
    under_way = entry.inflight if isinstance(entry, documents.LiveTypeCounts) else 0
    return Counted(entry.taken + entry.carried_over, entry.completed, entry.failed, under_way)


def latest(now: documents.Now) -> documents.RunStatus | documents.Record | None:
    """Return the open run, or else the last one, if there was one."""
    return now if isinstance(now, documents.RunStatus) else now.last_record


def counts_in_all(shown: documents.RunDocument) -> Counted:
    """Return the counts of a run."""
    each = [counts_of(entry) for entry in shown.by_type.values()]
    return Counted(*map(sum, zip((0, 0, 0, 0), *each, strict=True)))


#: The expectation for a run that has no forecast yet, or needs none any more.
_PHASES = {
    State.DRAINING: "taking the items off the audit list; the forecast comes with the plan",
    State.PLANNING: "planning: counts and windows become workers and a forecast",
    State.FINISHING: "finishing: calls under way are awaited, nothing more is sent",
}


class Verdict(NamedTuple):
    """A sentence without its full stop, how good it is, and details in further sentences.

    `rest`: nothing happens, and nothing needs to; `warn`: it continues, but not as wanted; `bad`: it does not continue.
    """

    level: Literal["well", "rest", "warn", "bad"]
    words: str
    more: str = ""

    @property
    def sentence(self) -> str:
        """All of it on one line."""
        return f"{self.words}: {self.more}." if self.more else f"{self.words}."


def forecast(run: documents.RunStatus) -> Verdict:
    """Return the present forecast of an open run, and what binds if not everything fits."""
    expected, phase = run.forecast, _PHASES.get(State(run.state), "")
    if phase or expected is None:
        return Verdict("well", phase or _PHASES[State.PLANNING])
    if halted(run):
        return Verdict("warn", f"nothing more is sent; waiting: {counted(counts_in_all(run).waiting, 'event')}")
    left, to_go = expected.expected_leftover, expected.forecast_seconds - (run.called_seconds or 0.0)
    when = f"finishes in {span(to_go)} ({span(max(0.0, run.seconds_left - to_go))} to spare)"
    if expected.shortage and not expected.workers:
        when = "nothing is being sent"
    elif run.called_seconds is None:
        when = done_after(expected.forecast_seconds)
    elif to_go <= 0:
        when = "no more answers are expected in time" if left else "done any moment now"
    elif left:  # it does not finish, so no time is to spare
        when = f"the last answer comes in {span(to_go)}"
    if not left:
        return Verdict("well", when)
    return Verdict("warn", f"{when}; {counted(left, 'event')} will be left over", expected.binds)


def progress(run: documents.RunStatus) -> str:
    """Return how much of an open run is done, and its rate of calls."""
    counts, rate = counts_in_all(run), calls_a_minute(run)
    to_take = f", {counted(run.to_take, 'item')} still to take" if run.to_take else ""
    calling = f", {rate:,.0f} calls a minute" if rate else ""
    return f"{counts.completed:,} of {counted(counts.total, 'event')} done{to_take}{calling}"


def calls_in_all(shown: documents.RunDocument) -> list[int]:
    """Return how many calls of a run were made, failed and were throttled."""
    each = [(entry.calls, entry.errors, entry.throttled) for entry in shown.by_endpoint.values()]
    return [sum(numbers) for numbers in zip((0, 0, 0), *each, strict=True)]


def calls_a_minute(run: documents.RunStatus) -> float:
    """Return the calls per minute of an open run since its first call; 0 before it."""
    return calls_in_all(run)[0] * 60 / run.called_seconds if run.called_seconds else 0.0


def summary(record: documents.Record) -> str:
    """Return the result of a run in one line."""
    failure = f" ({safe_line(record.failure)})" if record.failure else ""
    return f"{record.state} after {span(record.duration_seconds)}{failure}: {outcome(record.counts)}"


def outcome(counts: documents.RunCounts) -> str:
    """Return the result of a run's events."""
    return f"{counts.completed:,} completed, {counts.failed:,} failed, {counts.leftover:,} left over"


def halted(now: documents.Now) -> str:
    """Return why nothing is delivered now, the worst condition; empty if something is."""
    return next((each.sentence for each in now.conditions if stops(each)), "")


def told(condition: documents.Condition) -> str:
    """Return a condition in one line, with its remedy."""
    return f"{condition.sentence}: {condition.remedy}"


def next_slot(entry: documents.EndpointView) -> str:
    """Return when an endpoint has a free slot: `now`, after a duration, or when it is resumed."""
    seconds = entry.next_slot_seconds
    return "now" if seconds == 0 else "when resumed" if seconds is None else span(math.ceil(seconds))


def queue_rows(stats: documents.QueueStats) -> list[tuple[str, int, str]]:
    """Return by type how many events wait, and the age of the oldest."""
    return [(name, each.pending, span(each.oldest_seconds)) for name, each in stats.by_type.items()]


def doing(worker: documents.Worker) -> str:
    """Return what a worker does: its state, or the endpoints that it calls."""
    if worker.other_configuration:
        return "another configuration"
    if worker.state != "ready":
        return worker.state
    names = Counter(safe_line(call.endpoint or "waiting for a slot") for call in worker.calls)
    return ", ".join(f"{name} x{number}" if number > 1 else name for name, number in names.items()) or "idle"


def workers(run: documents.RunStatus) -> str:
    """Return how many workers are ready, how many lanes are busy, and how many workers were replaced."""
    team = run.workers
    if not team.wanted and not team.now:
        return "no worker is wanted yet"
    lanes, busy = sum(each.threads for each in team.each), sum(each.busy for each in team.each)
    parts = [f"{team.ready} of {team.wanted} ready, {busy} of {lanes} lanes busy"]
    if others := team.other_configuration:
        parts.append(f"{others:,} of another configuration {'claims' if others == 1 else 'claim'} nothing")
    return "; ".join([*parts, f"{team.restarted} had to be replaced"] if team.restarted else parts)


def lengths(stats: documents.QueueStats) -> Iterator[tuple[str, int, str]]:
    """Yield the lengths of the queues as figures."""
    yield f"items waiting{f', {stats.staged:,} in staging' if stats.staged else ''}", stats.events + stats.staged, ""
    left = "left over or retried", stats.leftover, "warn"  # between runs letters that are retried wait among leftovers
    yield ("in the open run", stats.processing, "") if stats.processing else left
    yield "dead letters", stats.failed, "bad"


def figures(now: documents.Now) -> Iterator[tuple[str, int, str]]:
    """Yield the figures of an open run, or of the time between two: words, number, and class if it is not 0."""
    if not isinstance(now, documents.RunStatus):
        yield from lengths(now.waiting)
        yield "workers alive", now.workers, ""
        return
    counts, is_halted = counts_in_all(now), bool(halted(now))
    yield f"done of {counts.total:,}", counts.completed, ""
    yield "under way", counts.under_way, ""
    yield "waiting", max(0, counts.waiting), "warn" if is_halted else ""
    if now.to_take:
        yield "items still to take", now.to_take, ""
    yield "failed", counts.failed, "bad"
    yield "carried in", now.counts.carried_over, ""
    if now.forecast is not None and not is_halted:  # otherwise nobody knows
        yield "expected to be left over", now.forecast.expected_leftover, "warn"
    yield "calls a minute", round(calls_a_minute(now)), ""
    yield f"workers ready of {now.workers.wanted:,}", now.workers.ready, ""


def verdict(now: documents.Now) -> Verdict:
    """Return the verdict on what is now: its worst condition, else its forecast or its last run."""
    worst = next((each for each in now.conditions if each.severity != "info"), None)
    expected = forecast(now) if isinstance(now, documents.RunStatus) else None
    if worst:
        then = expected.words if expected else ""
        return Verdict("bad" if worst.severity == "error" else "warn", worst.sentence, _joined(worst.remedy, then))
    if isinstance(now, documents.RunStatus) and expected:
        return Verdict(expected.level, capital(expected.words), _joined(expected.more, progress(now)))
    last = latest(now)
    if not isinstance(last, documents.Record):
        return Verdict("rest", "At rest; no run has finished yet", "`rlm start` starts one.")
    left = f"left {counted(last.counts.leftover, 'event')} over" if last.counts.leftover else "left nothing over"
    return Verdict("warn" if last.counts.leftover else "rest", f"At rest; the last run {left}", _joined(summary(last)))


def _joined(*clauses: str) -> str:
    """Return clauses as sentences on one line."""
    return " ".join(f"{capital(safe_line(clause))}." for clause in clauses if clause)


def line(shown: documents.View) -> str:
    """Return a view in one line, for output without a terminal."""
    if isinstance(shown, documents.Record):
        return f"run {shown.run_id} {summary(shown)}"
    now = verdict(shown)
    return f"{f'run {shown.run_id}: ' if isinstance(shown, documents.RunStatus) else ''}{now.words}. {now.more}"


def planned(plan: documents.RunPlan) -> str:
    """Return how a run is to end by a plan."""
    done = done_after(plan.forecast_seconds)
    return f"{counted(plan.workers, 'worker')}, {done}, {plan.expected_leftover:,} left over"


def against_plan(shown: documents.RunStatus | documents.Record) -> dict[str, str]:
    """Return what was `planned` for a run and, once it has ended, what happened `in fact`; nothing before the plan."""
    plan, team = shown.plan, shown.workers
    if plan is None or not plan.threads:
        return {}
    compared = {"planned": planned(plan)}
    if isinstance(shown, documents.Record):
        actual = plan.actual_seconds
        done = "no call completed" if actual is None else f"done {span(actual)} after the first call"
        replaced = f", {team.restarted} of them replaced" if team.restarted else ""
        compared["in fact"] = f"{counted(team.peak, 'worker')}{replaced}, {done}, {shown.counts.leftover:,} left over"
    return compared


def used(record: documents.Record) -> str:
    """Return the utilisation of a run and the age of its answers; '' if they are not known."""
    part = record.used
    if not part.calls_per_minute:
        return ""
    ages = f"{span(part.answered_p50_seconds)}, 19 of 20 in {span(part.answered_p95_seconds)}"
    return (
        f"{part.calls_per_minute:,.0f} calls a minute; {part.lanes:.0%} of the lanes' time and {part.slots:.0%} "
        f"of the slots used; half were answered in {ages} from intake"
    )


def causes(record: documents.Record) -> list[str]:
    """Return why a run left events over."""
    return [safe_line(cause.sentence) for cause in record.why]


def troubles(shown: documents.RunStatus | documents.Record) -> list[str]:
    """Return why a run left events over, how many calls failed or were throttled and why, and its dead letters."""
    wrong = causes(shown) if isinstance(shown, documents.Record) else []
    calls, errors, throttled = calls_in_all(shown)
    if became := " or ".join(word for word, number in (("failed", errors), ("were throttled", throttled)) if number):
        why = f": {safe_line(shown.failures)}" if shown.failures else ""
        wrong.append(f"{errors + throttled:,} of {counted(calls, 'call')} {became}{why}")
    if dead := shown.counts.failed + shown.counts.invalid:
        at_intake = f", {shown.counts.invalid:,} of them at intake" if shown.counts.invalid else ""
        wrong.append(f"{counted(dead, 'dead letter')}{at_intake}: `rlm failed list --grouped` says why")
    return wrong
