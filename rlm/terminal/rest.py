"""The picture between two runs: what ran last, when the next tick comes, what waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from rlm.core.text import counted, safe_line, span
from rlm.core.window import Circuit
from rlm.terminal import words
from rlm.terminal.run import QUIET, WIDEST, panel, state_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console, ConsoleOptions, RenderResult


_NO_SUPERVISOR = "no supervisor is alive to start any: `rlm up` or `rlm supervisor` starts one"


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
    rows.append(("workers", _workers(found)))
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


def _workers(found: Mapping[str, Any]) -> Text:
    if found["workers"]:
        return Text(f"{found['workers']:,} alive")
    if found["supervisors"]:
        return Text("none; they start when a run needs them")
    return Text(f"none, and {_NO_SUPERVISOR}", style="bold red")


def rest_line(found: Mapping[str, Any]) -> str:
    """Say it in one line, for where there is no terminal: what ran last, and what comes next."""
    record = found["last_record"]
    told = [f"last run {record['run_id']} {words.summary(record)}"] if record else []
    lacking = [] if found["workers"] or found["supervisors"] else [_NO_SUPERVISOR]
    return "; ".join(["no run is open", *told, f"waiting: {waiting(found['waiting'])}", *lacking])
