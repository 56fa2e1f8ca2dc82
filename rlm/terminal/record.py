"""The pictures of a finished run and of the time between two runs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.admin.verdict import against_plan, troubles, used
from rlm.core.documents import CallCounts, Condition, QueueStats, Record, Rest, RunStatus, View
from rlm.core.text import counted, harmless, safe_line, span
from rlm.terminal.drawing import NARROWEST_LIMIT, QUIET, Picture, bar_of, columns, facts, number, short_name, state_text
from rlm.terminal.run import CONDITION_STYLES, LISTED_ENDPOINTS, run_picture, title_of

#: Inner width from which answers and durations are shown by endpoint.
WIDE = 96


def record_picture(record: Record, title: str = "", *, endpoints: bool = True) -> Picture:
    """Return the picture of a finished run from its record; without `endpoints`, only of its types."""

    def draw(_console: Console, inside: ConsoleOptions) -> list[RenderableType]:
        parts = [*outcome(record), Text(), _types(record)]
        if endpoints:
            shown, unused = _endpoints_shown(record)
            parts += [Text(), *([_endpoints(shown, inside.max_width)] if shown else [])]
            if unused:
                parts.append(Text(f"and {unused:,} more without a call" if shown else "no call was made", style=QUIET))
        return parts

    return Picture(title_of(record, title), draw)


def outcome(record: Record) -> list[RenderableType]:
    """Return the result of a run, compared with its plan."""
    counts = record.counts
    began, ended = words.clock(record.started_at), words.clock(record.finished_at)
    took = f"{span(record.duration_seconds)} of {span(record.window_seconds)}"
    parts: list[RenderableType] = [Text(f"{began} to {ended} UTC, {took}: {words.outcome(counts)}")]
    if record.failure:
        parts.append(Text(safe_line(record.failure), style="bold red"))
    told = ["there was no event to send"]
    if any(one.taken + one.carried_over for one in record.by_type.values()):
        told = [*(f"{name}: {what}" for name, what in against_plan(record).items()), used(record)]
    told += troubles(record)
    if counts.invalid or counts.duplicates:
        told.append(f"intake: {counts.invalid:,} invalid, {counted(counts.duplicates, 'duplicate')}")
    return [*parts, *(Text(one, style=QUIET) for one in told if one)]


def _types(record: Record) -> Table:
    table = columns("type", 34, bar=True, numbers=("taken", "carried", "done", "failed", "left over"))
    table.spare = ("carried", "taken")
    for name, one in record.by_type.items():
        bar = bar_of((one.completed, "█", "green"), (one.failed, "X", "red"), (one.leftover, "░", "yellow"))
        table.add_row(
            short_name(name),
            bar if one.taken + one.carried_over else Text(),
            number(one.taken),
            number(one.carried_over),
            number(one.completed, "green"),
            number(one.failed, "bold red"),
            number(one.leftover, "yellow"),
        )
    return table


def _endpoints_shown(record: Record) -> tuple[dict[str, CallCounts], int]:
    """Return the endpoints and budgets to show, and the number hidden: among many, those without a call."""
    entries = {**record.by_endpoint, **record.by_budget}
    if len(entries) <= LISTED_ENDPOINTS:
        return entries, 0
    shown = {name: one for name, one in entries.items() if one.calls}
    return shown, len(entries) - len(shown)


def _endpoints(shown: Mapping[str, CallCounts], width: int) -> Table:
    """Return a table of endpoints and budgets: calls, peak, limit, and answers if the terminal is wide."""
    wide = width >= WIDE
    headings = ("calls", *(("completed",) if wide else ()), "throttled", "errors", "peak")
    table = columns("endpoint", None, numbers=headings, expand=not wide)
    table.add_column("limit", min_width=NARROWEST_LIMIT, max_width=None if wide else 14)
    for heading in ("p50 ms", "p95 ms") if wide else ("ms",):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, one in shown.items():
        cells = [number(one.calls), number(one.throttled, "yellow"), number(one.errors, "bold red")]
        times = [number(round(one.p50_ms))]
        if wide:
            cells.insert(1, number(one.completed, "green"))
            times.append(number(round(one.p95_ms)))
        peak = number(one.peak_in_window)
        table.add_row(short_name(name, "" if one.calls else QUIET), *cells, peak, short_name(one.limit, QUIET), *times)
    return table


def rest_rows(found: Rest) -> Iterator[tuple[str, Text]]:
    """Yield the facts about the state between two runs, each with its name."""
    yield "last run", _last_run(found)
    last = f"{words.clock(found.last_tick)} UTC, {span(found.last_tick_seconds)} ago" if found.last_tick else ""
    yield "last tick", Text(last or "none yet")
    if found.schedulers and not words.halted(found):
        yield "next tick", Text(f"{words.clock(found.next_tick)} UTC, in {span(found.next_tick_seconds)}", style="cyan")
    yield "waiting", Text(_waiting(found.waiting))
    if letters := found.waiting.failed:
        yield "dead letters", Text(f"{letters:,}; see `rlm failed list`", style="yellow")
    yield "workers", Text(f"{found.workers:,} alive" if found.workers else "none; they start when a run needs them")
    for condition in found.conditions:
        yield condition.severity, Text(words.told(condition), style=CONDITION_STYLES[condition.severity])
    yield "looking at", Text(words.looked_at(found.installation), style=QUIET)


def _last_run(found: Rest) -> Text:
    record = found.last_record
    if record is None:
        return Text(f"none yet; `rlm start{'' if found.schedulers else ' --wait'}` starts one now")
    when = f"{safe_line(record.run_id)}, {span(found.last_ended_seconds)} ago, "
    return Text(when).append_text(state_text(record.state)).append(words.summary(record)[len(record.state) :])


def _waiting(one: QueueStats) -> str:
    if not (one.events or one.staged or one.leftover):
        return "nothing"
    told = [counted(one.events, "item")]
    told += [f"{one.staged:,} in staging"] if one.staged else []
    told += [f"{counted(one.leftover, 'event')} left over"] if one.leftover else []
    return ", ".join(told)


def rest_line(found: Rest) -> str:
    """Return the state between two runs in one line, for output without a terminal."""
    record = found.last_record
    told = [f"last run {record.run_id} {words.summary(record)}"] if record else []
    amiss = map(words.told, found.conditions)
    return "; ".join(["no run is open", *told, f"waiting: {_waiting(found.waiting)}", *amiss])


def picture_of(found: View, height: int | None = None) -> RenderableType:
    """Return the picture of a status: of an open run, of a finished run, or of none."""
    safe = msgspec.convert(harmless(msgspec.to_builtins(found)), type(found))
    if isinstance(safe, Rest):
        rows = list(rest_rows(safe))
        title = Text("no run is open", style="bold default")
        return Picture(title, lambda _, inside: [facts(rows, inside.max_width)])
    return run_picture(safe, height) if isinstance(safe, RunStatus) else record_picture(safe)


def line_of(found: View) -> str:
    """Return a status in one line."""
    if isinstance(found, Rest):
        return rest_line(found)
    return words.line(found) if isinstance(found, RunStatus) else f"run {found.run_id} {words.summary(found)}"


def changes(found: View) -> Hashable:
    """Return the facts whose change is worth a line: counts, ready workers, conditions."""
    if isinstance(found, Rest):
        return found.state, found.last, _names(found.conditions)
    if isinstance(found, Record):
        return found.run_id, found.state
    counts, ready = words.counts_in_all(found), found.workers.ready
    return found.run_id, found.state, counts, ready, _names(found.conditions)


def _names(conditions: Sequence[Condition]) -> Hashable:
    return tuple((condition.code, condition.subject) for condition in conditions)
