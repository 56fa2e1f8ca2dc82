"""The pictures of a finished run and of the time between two runs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.admin.words import against_plan, troubles, used
from rlm.core.documents import CallCounts, Condition, QueueStats, Record, Rest, RunStatus, View
from rlm.core.text import counted, harmless, safe_line, span
from rlm.terminal.drawing import QUIET, Bar, Picture, columns, facts, name_text, number, state_text
from rlm.terminal.run import CONDITION_STYLES, LISTED_ENDPOINTS, run_picture, title_of


def record_picture(record: Record, title: str = "", *, endpoints: bool = True) -> Picture:
    """Return the picture of a finished run from its record; without `endpoints`, only of its types."""
    shown = {**record.by_endpoint, **record.by_budget} if endpoints else {}
    if len(shown) > LISTED_ENDPOINTS:
        shown = {name: each for name, each in shown.items() if each.calls}
    parts: list[RenderableType] = [*outcome(record), Text(), _types(record)]
    parts += [Text(), _endpoints(shown)] if shown else []
    return Picture(title_of(record, title), parts)


def outcome(record: Record) -> Iterator[RenderableType]:
    """Yield the result of a run, compared with its plan."""
    counts = record.counts
    began, ended = words.clock(record.started_at), words.clock(record.finished_at)
    took = f"{span(record.duration_seconds)} of {span(record.window_seconds)}"
    yield Text(f"{began} to {ended} UTC, {took}: {words.outcome(counts)}")
    if record.failure:
        yield Text(safe_line(record.failure), style="bold red")
    lines = ["there was no event to send"]
    if any(each.taken + each.carried_over for each in record.by_type.values()):
        lines = [*(f"{name}: {what}" for name, what in against_plan(record).items()), used(record)]
    lines += troubles(record)
    if counts.invalid or counts.duplicates:
        lines.append(f"intake: {counts.invalid:,} invalid, {counted(counts.duplicates, 'duplicate')}")
    for line in filter(None, lines):
        yield Text(line, style=QUIET)


def _types(record: Record) -> Table:
    table = columns("type", "#taken", "#carried", "#done", "#failed", "#left over", bar=True)
    for name, each in record.by_type.items():
        bar = Bar((each.completed, "█", "green"), (each.failed, "X", "red"), (each.leftover, "░", "yellow"))
        table.add_row(
            name_text(name),
            bar if each.taken + each.carried_over else Text(),
            number(each.taken),
            number(each.carried_over),
            number(each.completed, "green"),
            number(each.failed, "bold red"),
            number(each.leftover, "yellow"),
        )
    return table


def _endpoints(shown: Mapping[str, CallCounts]) -> Table:
    """Return a table of endpoints and budgets: calls, answers, peak, limit, durations."""
    headings = ("#calls", "#completed", "#throttled", "#errors", "#peak", "limit", "#p50 ms", "#p95 ms")
    table = columns("endpoint", *headings)
    for name, each in shown.items():
        table.add_row(
            name_text(name, "" if each.calls else QUIET),
            number(each.calls),
            number(each.completed, "green"),
            number(each.throttled, "yellow"),
            number(each.errors, "bold red"),
            number(each.peak_in_window),
            name_text(each.limit, QUIET),
            number(round(each.p50_ms)),
            number(round(each.p95_ms)),
        )
    return table


def rest_rows(state: Rest) -> Iterator[tuple[str, Text]]:
    """Yield the facts about the state between two runs, each with its name."""
    yield "last run", _last_run(state)
    last = f"{words.clock(state.last_tick)} UTC, {span(state.last_tick_seconds)} ago" if state.last_tick else ""
    yield "last tick", Text(last or "none yet")
    if state.schedulers and not words.halted(state):
        yield "next tick", Text(f"{words.clock(state.next_tick)} UTC, in {span(state.next_tick_seconds)}", style="cyan")
    yield "waiting", Text(_waiting(state.waiting))
    if letters := state.waiting.failed:
        yield "dead letters", Text(f"{letters:,}; see `rlm failed list`", style="yellow")
    yield "workers", Text(f"{state.workers:,} alive" if state.workers else "none; they start when a run needs them")
    for condition in state.conditions:
        yield condition.severity, Text(words.told(condition), style=CONDITION_STYLES[condition.severity])
    yield "looking at", Text(words.looked_at(state.installation), style=QUIET)


def _last_run(state: Rest) -> Text:
    record = state.last_record
    if record is None:
        return Text(f"none yet; `rlm start{'' if state.schedulers else ' --wait'}` starts one now")
    when = f"{safe_line(record.run_id)}, {span(state.last_ended_seconds)} ago, "
    return Text(when).append_text(state_text(record.state)).append(words.summary(record)[len(record.state) :])


def _waiting(stats: QueueStats) -> str:
    if not (stats.events or stats.staged or stats.leftover):
        return "nothing"
    parts = [counted(stats.events, "item")]
    parts += [f"{stats.staged:,} in staging"] if stats.staged else []
    parts += [f"{counted(stats.leftover, 'event')} left over"] if stats.leftover else []
    return ", ".join(parts)


def rest_line(state: Rest) -> str:
    """Return the state between two runs in one line, for output without a terminal."""
    record = state.last_record
    parts = [f"last run {record.run_id} {words.summary(record)}"] if record else []
    amiss = map(words.told, state.conditions)
    return "; ".join(["no run is open", *parts, f"waiting: {_waiting(state.waiting)}", *amiss])


def picture_of(document: View) -> Picture:
    """Return the picture of a status: of an open run, of a finished run, or of none."""
    safe = msgspec.convert(harmless(msgspec.to_builtins(document)), type(document))
    if isinstance(safe, Rest):
        return Picture(Text("no run is open", style="bold default"), [facts(rest_rows(safe))])
    return run_picture(safe) if isinstance(safe, RunStatus) else record_picture(safe)


def line_of(state: View) -> str:
    """Return a status in one line."""
    if isinstance(state, Rest):
        return rest_line(state)
    return words.line(state) if isinstance(state, RunStatus) else f"run {state.run_id} {words.summary(state)}"


def changes(state: View) -> Hashable:
    """Return the facts whose change is worth a line: counts, ready workers, conditions."""
    if isinstance(state, Rest):
        return state.state, state.last, _names(state.conditions)
    if isinstance(state, Record):
        return state.run_id, state.state
    counts, ready = words.counts_in_all(state), state.workers.ready
    return state.run_id, state.state, counts, ready, _names(state.conditions)


def _names(conditions: Sequence[Condition]) -> Hashable:
    return tuple((condition.code, condition.subject) for condition in conditions)
