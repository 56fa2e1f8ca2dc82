"""The picture of an open run: countdown, forecast, a bar per type, the use of endpoints, workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.admin.verdict import call_troubles
from rlm.core.documents import LiveCallCounts, RunDocument, RunStatus, TypeCounts, WorkerNow
from rlm.core.text import counted, safe_line, span
from rlm.core.window import WELL
from rlm.terminal.drawing import (
    NARROWEST,
    NARROWEST_LIMIT,
    QUIET,
    Picture,
    bar_of,
    columns,
    longest_fitting,
    number,
    short_name,
    state_text,
)

#: Width of a cell `30/30 12 s` with its separator; and beside the cells, in their own table and in that of types.
_CELL, _BESIDE, _BESIDE_MERGED = 13, 24, 76
#: Inner widths from which types have bars, a worker's events are named, an endpoint's row has its types, and types and
#: endpoints share a table.
_BARS_FROM, _EVENTS_FROM, _TYPES_FROM, _MERGED_FROM = 62, 100, 110, 116
CONDITION_STYLES = {"error": "bold red", "warning": "yellow", "info": QUIET}
#: With at most this many endpoints and budgets, each has its own row.
LISTED_ENDPOINTS = 8
#: With more types than this, those without events are hidden.
_SHOWN_TYPES = 10


def run_picture(found: RunStatus, height: int | None = None, title: str = "") -> Picture:
    """Return the picture of an open run; in `height` lines, if omitting workers suffices."""

    def draw(console: Console, inside: ConsoleOptions) -> list[RenderableType]:
        parts = [*_head(found, inside.max_width), Text(), *_body(found, inside.max_width)]
        drawn = console.render_lines(Group(*parts), inside, pad=False)
        room = None if height is None else height - len(drawn) - 4
        return [*parts, Text(), *_team(found, room, inside.max_width)]

    return Picture(title_of(found, title), draw)


def title_of(found: RunDocument, name: str = "") -> Text:
    """Return the title of a run's picture: its id or `name`, its state, its trigger."""
    title = Text.assemble(*([(name, "bold")] if name else ["run ", (safe_line(found.run_id), "bold")]), (" · ", QUIET))
    return title.append_text(state_text(found.state)).append(f" · {found.trigger}", QUIET)


def _head(found: RunStatus, width: int) -> list[RenderableType]:
    window, left = found.window_seconds, found.seconds_left
    bar = bar_of((max(0.0, window - left), "█", "cyan"), (left, "░", QUIET))
    countdown = Text(words.countdown(found), style="bold cyan")
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(bar, countdown)
    bar_fits = width >= countdown.cell_len + 2 + NARROWEST
    expected = words.forecast(found)
    told = Text(expected.words, style="green" if expected.fits else "yellow")
    binds = [Text(safe_line(expected.binds), style=QUIET)] if expected.binds else []
    return [grid if bar_fits else countdown, Text(words.progress(found)), told, *binds]


def _body(found: RunStatus, width: int) -> list[RenderableType]:
    """Draw types and endpoints, in one table if it fits, and anything unusual."""
    by_type, limited = found.by_type, {**found.by_endpoint, **found.by_budget}
    shown = {name: one for name, one in by_type.items() if len(by_type) <= _SHOWN_TYPES or words.counts_of(one).total}
    parts: list[RenderableType]
    if not any(entry.allowed for entry in found.by_endpoint.values()):  # a read-only user does not see it
        parts = [_type_table(shown, width, {})]
    elif len(limited) <= LISTED_ENDPOINTS:
        parts = [_type_table(shown, width, {}), Text(), _slots("endpoint", limited, width)]
    elif width >= _MERGED_FROM:
        cells = _use_cells(found, shown, max(2, (width - _BESIDE_MERGED) // _CELL + 1))
        parts = [_type_table(shown, width, cells), *_budgets_and_legend(found, width)]
    else:
        cells = _use_cells(found, shown, max(2, (width - _BESIDE) // _CELL + 1)) if shown else {}
        endpoints = [_cells_table(cells)] if cells else []
        parts = [_type_table(shown, width, {}), Text(), *endpoints, *_budgets_and_legend(found, width)]
    if hidden := len(by_type) - len(shown):
        parts.insert(1, Text(f"and {counted(hidden, 'type')} without an event in this run", style=QUIET))
    return [*parts, *_notes(found)]


def _type_table(by_type: Mapping[str, TypeCounts], width: int, cells: Mapping[str, Sequence[Text]]) -> Table:
    """Return a table of types with a bar, if it fits, and numbers; `cells` show the use of the endpoints."""
    bars = width >= _BARS_FROM
    table = columns("type", 34, bar=bars, numbers=("done", "under way", "waiting", "failed"))
    table.spare = ("under way", "waiting")
    _add_cell_columns(table, cells)
    for name, entry in by_type.items():
        row = _type_row(name, words.counts_of(entry))
        table.add_row(*(row if bars else [row[0], *row[2:]]), *cells.get(name, ()))
    return table


def _cells_table(cells: Mapping[str, Sequence[Text]]) -> Table:
    table = columns("endpoints of", 34, expand=False)
    _add_cell_columns(table, cells, min_width=_CELL - 2)
    for name, row in cells.items():
        table.add_row(short_name(name), *row)
    return table


def _add_cell_columns(table: Table, cells: Mapping[str, Sequence[Text]], min_width: int | None = None) -> None:
    for place in range(max(map(len, cells.values()), default=0)):
        table.add_column("primary" if place == 0 else f"+{place}", no_wrap=True, min_width=min_width)


def _budgets_and_legend(found: RunStatus, width: int) -> list[RenderableType]:
    budgets = found.by_budget
    legend = Text("calls used of those allowed in a period; where full, time to the next slot", style=QUIET)
    return [Text(), _slots("budget", budgets, width), legend] if budgets else [legend]


def _type_row(name: str, counts: words.Counted) -> list[RenderableType]:
    is_idle = counts.total == 0
    settled = (counts.completed, "█", "green"), (counts.failed, "X", "red")
    bar = bar_of(*settled, (counts.under_way, "▓", "cyan"), (counts.waiting, "░", QUIET))
    return [
        short_name(name, QUIET if is_idle else ""),
        Text() if is_idle else bar,
        Text("-", style=QUIET) if is_idle else Text(f"{counts.completed:,}/{counts.total:,}"),
        number(counts.under_way, "cyan"),
        number(counts.waiting),
        number(counts.failed, "bold red"),
    ]


def _notes(found: RunStatus) -> Iterator[RenderableType]:
    """Yield what is unusual: the conditions, failed calls, bad items."""
    for condition in found.conditions:
        yield Text(f"! {words.told(condition)}", style=CONDITION_STYLES[condition.severity])
    for one in call_troubles(found):
        yield Text(f"! {one}", style="yellow")
    counts = found.counts
    nouns = {"invalid item": counts.invalid, "duplicate": counts.duplicates}
    if told := [counted(number, noun) for noun, number in nouns.items() if number]:
        yield Text(f"intake: {', '.join(told)}", style=QUIET)


def _use_cells(found: RunStatus, types: Iterable[str], room: int) -> dict[str, list[Text]]:
    """Return the cells of each type, one per endpoint, primary first; the last cell sums up those without room."""
    cells = {}
    for name in types:
        entries = [entry for entry in found.by_endpoint.values() if name in entry.types]
        alone = entries if len(entries) <= room else entries[: room - 1]
        cells[name] = [_use_cell(entry) for entry in alone]
        if rest := entries[len(alone) :]:
            used, allowed = sum(one.used for one in rest), sum(one.allowed for one in rest)
            cells[name].append(Text(f"{len(rest)} more {used}/{allowed}"))
    return cells


def _use_cell(entry: LiveCallCounts) -> Text:
    use = f"{entry.used}/{entry.allowed}"
    if entry.health not in WELL:
        return Text(entry.health, style="red")
    if entry.free > 0:
        return Text(use, style="" if entry.used else QUIET)
    return Text.assemble((use, "yellow"), (f" {words.next_slot(entry)}", QUIET))


def _slots(what: str, entries: Mapping[str, LiveCallCounts], width: int) -> Table:
    table = columns(what, 40, bar=True, numbers=("used", "next slot"))
    table.add_column("limit", min_width=NARROWEST_LIMIT)
    table.add_column("health")
    wide = width >= _TYPES_FROM and len({name for entry in entries.values() for name in entry.types}) > 1
    if wide:
        table.add_column("of", max_width=40)
    for name, entry in entries.items():
        table.add_row(*_limited_row(name, entry), *([short_name(", ".join(entry.types), QUIET)] if wide else []))
    return table


def _limited_row(name: str, entry: LiveCallCounts) -> list[RenderableType]:
    full, well = entry.free <= 0, entry.health in WELL
    left = max(0, entry.allowed - entry.used)
    return [
        short_name(name),
        bar_of((entry.used, "█", "yellow" if full else "cyan"), (left, "░", QUIET)),
        Text(f"{entry.used}/{entry.allowed}", style="yellow" if full else ""),
        Text(words.next_slot(entry), style="" if full else QUIET),
        short_name(entry.limit, QUIET),
        longest_fitting(*_healths(entry), style="green" if well else "red"),
    ]


def _healths(entry: LiveCallCounts) -> tuple[str, ...]:
    """Return the health of an endpoint with its time, and alone."""
    left = f" for {span(entry.circuit_seconds)}" if entry.circuit_seconds is not None else ""
    return f"{entry.health}{left}", entry.health


def _team(found: RunStatus, room: int | None, width: int) -> list[RenderableType]:
    """Draw the workers, one per row, in at most `room` lines."""
    each = found.workers.each
    parts: list[RenderableType] = [Text.assemble(("workers ", QUIET), words.workers(found))]
    shown = each if room is None or len(each) <= room else each[: max(0, room - 1)]
    if shown:
        parts.append(_worker_rows(shown, named=width >= _EVENTS_FROM))
    if shown and (hidden := each[len(shown) :]):  # without rows the line above is enough
        busy = sum(one.busy for one in hidden)
        parts.append(Text(f"and {counted(len(hidden), 'more worker')}, {busy} lanes busy", style=QUIET))
    return parts


def _worker_rows(each: Sequence[WorkerNow], *, named: bool) -> Table:
    """Return a table of workers: lanes and activity; with `named`, also the events."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False, expand=True)
    table.add_column(no_wrap=True, justify="right")
    with_host = len({one.host for one in each}) > 1
    if with_host:
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for one in each:
        lanes = Text.assemble(("▮" * one.busy, "cyan"), ("▯" * max(0, one.threads - one.busy), "dim"))
        host = [Text(safe_line(one.host), style=QUIET)] if with_host else []
        odd = one.other_configuration or one.state != "ready"
        told = Text(words.doing(one, events=named), style="yellow" if odd else "" if one.calls else QUIET)
        table.add_row(Text(str(one.pid), style=QUIET), *host, lanes, told)
    return table
