"""The pictures of a finished run and of the time between two runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from rlm.admin import report
from rlm.core.health import Circuit
from rlm.core.text import counted, harmless, safe_line, span
from rlm.terminal import words
from rlm.terminal.bars import NARROWEST, Bar, Name
from rlm.terminal.run import BORDER, LISTED_ENDPOINTS, QUIET, WIDEST, RunPicture, panel, state_text, title_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult


#: From so many columns inside on, answers and durations are told by endpoint as well.
WIDE = 96


@dataclass(frozen=True)
class RecordPicture:
    """A finished run, by its record; without `endpoints` by its types alone."""

    record: Mapping[str, Any]
    title: str = ""
    endpoints: bool = True

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it as wide as the terminal."""
        width = min(options.max_width, WIDEST)
        one = self.record
        parts = [*outcome(one), Text(), _types(one)]
        if self.endpoints:
            shown, unused = _endpoints_shown(one)
            parts += [Text(), *([_endpoints(shown, width - BORDER)] if shown else []), *_limits_changed(shown)]
            if unused:
                parts.append(Text(f"and {unused:,} more without a call" if shown else "no call was made", style=QUIET))
        yield panel(title_of(one, self.title), parts, width)


def outcome(record: Mapping[str, Any]) -> list[RenderableType]:
    """Say what became of a run, and how that compares with its plan."""
    counts, plan, team = record["counts"], record["plan"], record["workers"]
    began, ended = words.clock(record["started_at"]), words.clock(record["finished_at"])
    took = f"{span(record['duration_seconds'])} of {span(record['window_seconds'])}"
    parts: list[RenderableType] = [Text(f"{began} to {ended} UTC, {took}: {words.outcome(counts)}")]
    if record.get("failure"):
        parts.append(Text(safe_line(record["failure"]), style="bold red"))
    if not any(one["taken"] + one["carried_over"] for one in record["by_type"].values()):
        parts.append(Text("there was no event to send", style=QUIET))
        return [*parts, *(Text(told, style=QUIET) for told in words.troubles(record)), *_intake(counts)]
    done = f"done {span(plan['forecast_seconds'])} after the first call" if plan["forecast_seconds"] else "no call"
    actual = f"done {span(plan['actual_seconds'])} after it" if "actual_seconds" in plan else "no call completed"
    parts.append(
        Text(f"planned: {counted(plan['workers'], 'worker')}, {done}, {_left(plan['expected_leftover'])}", style=QUIET)
    )
    parts.append(
        Text(
            f"in fact: {counted(team['peak'], 'worker')}, {actual}, {_left(counts['leftover'])}; "
            f"{team['restarted']} replaced",
            style=QUIET,
        )
    )
    if used := words.used(record):
        parts.append(Text(used, style=QUIET))
    return [*parts, *(Text(told, style=QUIET) for told in words.troubles(record)), *_intake(counts)]


def _left(leftover: int) -> str:
    return f"{leftover:,} left over" if leftover else "nothing left over"


def _intake(counts: Mapping[str, int]) -> list[RenderableType]:
    if not counts["invalid"] and not counts["duplicates"]:
        return []
    return [Text(f"intake: {counts['invalid']:,} invalid, {counts['duplicates']:,} duplicates", style=QUIET)]


def _types(record: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=True, header_style=QUIET)
    table.add_column("type", max_width=34, min_width=8)
    table.add_column("", ratio=1, width=NARROWEST, no_wrap=True)
    for name in ("taken", "carried", "done", "failed", "left over"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in record["by_type"].items():
        bar = Bar((one["completed"], "█", "green"), (one["failed"], "X", "red"), (one["leftover"], "░", "yellow"))
        table.add_row(
            Name(name),
            bar if one["taken"] + one["carried_over"] else Text(),
            *_numbers((one["taken"], ""), (one["carried_over"], ""), (one["completed"], "green")),
            *_numbers((one["failed"], "bold red"), (one["leftover"], "yellow")),
        )
    return table


def _endpoints_shown(record: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the endpoints and budgets to be shown; of many only those that were called; and how many are not."""
    entries = record["by_endpoint"] | record.get("by_budget", {})
    if len(entries) <= LISTED_ENDPOINTS:
        return entries, 0
    shown = {name: one for name, one in entries.items() if one["calls"]}
    return shown, len(entries) - len(shown)


def _endpoints(shown: Mapping[str, Any], width: int) -> Table:
    """Draw a line per endpoint and budget: its calls, the peak against its limit, their answers if there is room."""
    wide = width >= WIDE
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=QUIET, expand=not wide)
    table.add_column("endpoint", min_width=8)
    for name in ("calls", *(("completed",) if wide else ()), "throttled", "errors", "peak"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("limit", max_width=None if wide else 14)
    table.add_column("p50 ms" if wide else "ms", justify="right", no_wrap=True)
    if wide:
        table.add_column("p95 ms", justify="right", no_wrap=True)
    for name, one in shown.items():
        table.add_row(
            Name(name, "" if one["calls"] else QUIET),
            *_numbers((one["calls"], "")),
            *(_numbers((one["completed"], "green")) if wide else ()),
            *_numbers((one["throttled"], "yellow"), (one["errors"], "bold red"), (one["peak_in_window"], "")),
            Name(one["limit"], QUIET),
            *_numbers((round(one.get("p50_ms", 0)), "")),
            *(_numbers((round(one.get("p95_ms", 0)), "")) if wide else ()),
        )
    return table


def _limits_changed(shown: Mapping[str, Any]) -> list[RenderableType]:
    told = [f"{safe_line(name)} {_limit(one)}" for name, one in shown.items() if one.get("limit_before")]
    return [Text(f"limits changed in this run: {'; '.join(told)}", style=QUIET)] if told else []


def _limit(one: Mapping[str, Any]) -> str:
    """Write a limit, and the one that the run began with: its peak may be of that one's time."""
    return f"{one['limit']}, was {one['limit_before']}" if one.get("limit_before") else str(one["limit"])


def _numbers(*pairs: tuple[int, str]) -> list[Text]:
    return [Text(f"{number:,}", style=style) if number else Text("-", style=QUIET) for number, style in pairs]


@dataclass(frozen=True)
class RestPicture:
    """No open run, by the document of `rlm.admin.report.at_rest`."""

    found: Mapping[str, Any]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it as wide as the terminal."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style=QUIET, no_wrap=True)
        grid.add_column()
        for name, told in rest_rows(self.found):
            grid.add_row(name, told)
        yield panel(Text("no run is open", style="bold default"), [grid], min(options.max_width, WIDEST))


def rest_rows(found: Mapping[str, Any]) -> list[tuple[str, Text]]:
    """Say how things stand between two runs, each with its name."""
    rows = [
        ("last run", last_run(found)),
        ("last tick", Text(_last_tick(found))),
        ("next tick", next_tick(found)),
        ("waiting", Text(waiting(found["waiting"]))),
    ]
    if letters := found["waiting"]["failed"]:
        rows.append(("dead letters", Text(f"{letters:,}; see `rlm failed list`", style="yellow")))
    if unwell := words.unwell({"by_endpoint": {name: _at_rest(one) for name, one in found["by_endpoint"].items()}}):
        rows.append(("endpoints", Text("; ".join(unwell), style="yellow")))
    rows.append(("workers", Text(_alive(found))))
    told = words.looked_at(found)
    return [*rows, *([("looking at", Text(told, style=QUIET))] if told else [])]


def _at_rest(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add to what is said of an endpoint that is probed by whom, for nothing calls it now."""
    return {**entry, "circuit_reason": "by the next call"} if entry["health"] == Circuit.PROBING else entry


def last_run(found: Mapping[str, Any]) -> Text:
    """Say what ran last."""
    record = found["last_record"]
    if record is None:
        return Text(f"none yet; `rlm start{'' if found['schedulers'] else ' --wait'}` starts one now")
    when = f"{safe_line(record['run_id'])}, {span(found['last_ended_seconds'])} ago, "
    return Text(when).append_text(state_text(record["state"])).append(words.summary(record)[len(record["state"]) :])


def _last_tick(found: Mapping[str, Any]) -> str:
    if found["last_tick"] is None:
        return "none yet"
    return f"{words.clock(found['last_tick'])} UTC, {span(found['last_tick_seconds'])} ago"


def next_tick(found: Mapping[str, Any]) -> Text:
    """Say when the next run starts by itself, which needs a scheduler that lives."""
    if not found["schedulers"]:
        return Text("none: no scheduler is running; `rlm up` or `rlm scheduler` starts one", style="bold red")
    return Text(f"{words.clock(found['next_tick'])} UTC, in {span(found['next_tick_seconds'])}", style="cyan")


def waiting(one: Mapping[str, Any]) -> str:
    """Say what the next run will find."""
    told = [
        counted(one["events"], "item"),
        *([f"{one['staged']:,} in staging"] if one["staged"] else []),
        *([f"{counted(one['leftover'], 'event')} left over"] if one["leftover"] else []),
        *([f"{counted(one['retried'], 'event')} retried by hand"] if one["retried"] else []),
    ]
    return ", ".join(told) if any(one[key] for key in ("events", "staged", "leftover", "retried")) else "nothing"


def _alive(found: Mapping[str, Any]) -> str:
    return f"{found['workers']:,} alive" if found["workers"] else "none; they start when a run needs them"


def rest_line(found: Mapping[str, Any]) -> str:
    """Say it in one line, for where there is no terminal: what ran last, and what comes next."""
    record = found["last_record"]
    told = [f"last run {record['run_id']} {words.summary(record)}"] if record else []
    return "; ".join(["no run is open", *told, f"waiting: {waiting(found['waiting'])}"])


def picture_of(found: Mapping[str, Any], height: int | None = None) -> RenderableType:
    """Draw a status: of an open run, of a finished one, or of none."""
    found = harmless(found)
    if found["state"] == report.IDLE:
        return RestPicture(found)
    return RunPicture(found, height) if words.is_open(found) else RecordPicture(found)


def line_of(found: Mapping[str, Any]) -> str:
    """Write a status in one line."""
    if found["state"] == report.IDLE:
        return rest_line(found)
    return words.line(found) if words.is_open(found) else f"run {found['run_id']} {words.summary(found)}"


def changes(found: Mapping[str, Any]) -> Hashable:
    """Return what makes a line worth writing: where events are, who works or conducts, which endpoints are not well."""
    if found["state"] == report.IDLE:
        return found["state"], found["last"]
    if not words.is_open(found):
        return found["run_id"], found["state"]
    healths = tuple((name, entry["health"]) for name, entry in words.shut(found).items())
    return (
        found["run_id"],
        found["state"],
        words.counts_in_all(found),
        found["workers"]["ready"],
        healths,
        words.unconducted(found),
    )
