"""The picture of an open run: countdown, forecast, a bar per type, what each endpoint has used, workers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlm.core.text import counted, safe_line, span
from rlm.core.window import WELL
from rlm.terminal import words
from rlm.terminal.drawing import QUIET, Picture, bar_of, columns, longest_fitting, number, short_name, state_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

#: Width of a cell `30/30 12 s` with its separator.
CELL = 13
#: Width beside the cells: in their own table, and in that of the types.
_BESIDE, _BESIDE_MERGED = 24, 76
#: From this width on, an endpoint's row has room for its types.
_WIDE = 110
#: From this width on, the events of a worker are named.
EVENTS_FROM = 100
#: From this inner width on, types and endpoints share a table.
MERGED_FROM = 116
#: From this inner width on, types have bars.
BARS_FROM = 62
#: Up to this many endpoints and budgets, each has its own row.
LISTED_ENDPOINTS = 8
#: With more types than this, those without events are hidden.
SHOWN_TYPES = 10


def run_picture(found: Mapping[str, Any], height: int | None = None, title: str = "") -> Picture:
    """Return the picture of an open run; in `height` lines, if leaving out workers suffices."""

    def draw(console: Console, inside: ConsoleOptions) -> list[RenderableType]:
        parts = [*head(found), Text(), *_body(found, inside.max_width)]
        if told := words.looked_at(found):
            parts.insert(0, Text(told, style=QUIET, no_wrap=True, overflow="ellipsis"))
        drawn = console.render_lines(Group(*parts), inside, pad=False)
        room = None if height is None else height - len(drawn) - 4
        return [*parts, Text(), *team(found, room, inside.max_width)]

    return Picture(title_of(found, title), draw)


def title_of(found: Mapping[str, Any], name: str = "") -> Text:
    """Return the title of a run's picture: its id or `name`, its state, who started it."""
    title = Text.assemble(
        *([(name, "bold")] if name else ["run ", (safe_line(found["run_id"]), "bold")]), (" · ", QUIET)
    )
    return title.append_text(state_text(found["state"])).append(f" · {found['trigger']}", QUIET)


def head(found: Mapping[str, Any]) -> list[RenderableType]:
    """Draw the countdown and the forecast."""
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    window, left = found["window_seconds"], found["seconds_left"]
    bar = bar_of((max(0.0, window - left), "█", "cyan"), (left, "░", QUIET))
    grid.add_row(bar, Text(words.countdown(found), style="bold cyan"))
    expected = words.forecast(found)
    parts: list[RenderableType] = [grid, Text(words.progress(found))]
    parts.append(Text(expected.words, style="green" if expected.fits else "yellow"))
    if expected.binds:
        parts.append(Text(safe_line(expected.binds), style=QUIET))
    return parts


def _body(found: Mapping[str, Any], width: int) -> list[RenderableType]:
    """Draw types and endpoints, in one table if it fits, and anything unusual."""
    shown, hidden = _types_shown(found["by_type"])
    limited = len(found["by_endpoint"]) + len(found.get("by_budget", {}))
    if not all("used" in entry for entry in found["by_endpoint"].values()):  # a looker-on does not see that
        parts: list[RenderableType] = [type_table(shown, width)]
    elif limited <= LISTED_ENDPOINTS:
        parts = [type_table(shown, width), Text(), slots_by_endpoint(found, width)]
    elif width >= MERGED_FROM:
        cells = use_cells(found, list(shown), merged_room(width))
        parts = [type_table(shown, width, cells), *slots_by_type(found, {}, width)]
    else:
        parts = [type_table(shown, width), Text(), *slots_by_type(found, shown, width)]
    if hidden:
        parts.insert(1, Text(f"and {counted(hidden, 'type')} without an event in this run", style=QUIET))
    return [*parts, *_notes(found)]


def _types_shown(by_type: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the types to show, and how many are hidden: of many, those without events."""
    if len(by_type) <= SHOWN_TYPES:
        return dict(by_type), 0
    shown = {name: entry for name, entry in by_type.items() if words.counts_of(entry).total}
    return shown, len(by_type) - len(shown)


def type_table(by_type: Mapping[str, Any], width: int, cells: Mapping[str, Sequence[Text]] | None = None) -> Table:
    """Draw a row per type with a bar, if it fits, and numbers; `cells` show the use of its endpoints."""
    bars = width >= BARS_FROM
    table = columns("type", 34, bar=bars, numbers=("done", "under way", "waiting", "failed"))
    for place in range(max(map(len, cells.values()), default=0) if cells else 0):
        table.add_column("primary" if place == 0 else f"+{place}", no_wrap=True)
    for name, entry in by_type.items():
        row = _type_row(name, words.counts_of(entry))
        table.add_row(*(row if bars else [row[0], *row[2:]]), *(cells.get(name, ()) if cells else ()))
    return table


def _type_row(name: str, counts: words.Counted) -> list[RenderableType]:
    idle = counts.total == 0
    bar = bar_of(
        (counts.completed, "█", "green"),
        (counts.failed, "X", "red"),
        (counts.under_way, "▓", "cyan"),
        (counts.waiting, "░", QUIET),
    )
    done = Text(f"{counts.completed:,}/{counts.total:,}")
    return [
        short_name(name, QUIET if idle else ""),
        Text() if idle else bar,
        Text("-", style=QUIET) if idle else done,
        number(counts.under_way, "cyan"),
        number(counts.waiting),
        number(counts.failed, "bold red"),
    ]


def _notes(found: Mapping[str, Any]) -> list[RenderableType]:
    """Return what is unusual: no conductor, endpoints that are not well, failed calls, bad items."""
    notes: list[RenderableType] = []
    if why := words.unconducted(found):
        notes.append(Text(f"! {why}", style="bold red"))
    if unwell := words.unwell(found):
        notes.append(Text(f"! {'; '.join(unwell)}", style="yellow"))
    notes += [Text(f"! {one}", style="yellow") for one in words.call_troubles(found)]
    counts = found["counts"]
    told = [
        f"{counted(counts[key], noun)}"
        for key, noun in (("invalid", "invalid item"), ("duplicates", "duplicate"))
        if counts[key]
    ]
    if told:
        notes.append(Text(f"intake: {', '.join(told)}", style=QUIET))
    return notes


def merged_room(width: int) -> int:
    """Return how many cells fit beside the bars of the types."""
    return max(2, (width - _BESIDE_MERGED) // CELL + 1)


def use_cells(found: Mapping[str, Any], types: Sequence[str], room: int) -> dict[str, list[Text]]:
    """Return the cells of each type, one per endpoint, the primary first; the last cell sums up what has no room."""
    cells = {}
    for name in types:
        entries = [entry for entry in found["by_endpoint"].values() if name in entry["types"]]
        alone = entries if len(entries) <= room else entries[: room - 1]
        cells[name] = [_use_cell(entry) for entry in alone]
        if rest := entries[len(alone) :]:
            used, allowed = sum(one["used"] for one in rest), sum(one["allowed"] for one in rest)
            cells[name].append(Text(f"{len(rest)} more {used}/{allowed}"))
    return cells


def _use_cell(entry: Mapping[str, Any]) -> Text:
    use = f"{entry['used']}/{entry['allowed']}"
    if entry["health"] not in WELL:
        return Text(entry["health"], style="red")
    if entry["free"] > 0:
        return Text(use, style="" if entry["used"] else QUIET)
    return Text.assemble((use, "yellow"), (f" {words.next_slot(entry)}", QUIET))


def slots_by_type(found: Mapping[str, Any], types: Mapping[str, Any], width: int) -> list[RenderableType]:
    """Draw a row per type with a cell per endpoint, the budgets, and a legend."""
    parts: list[RenderableType] = []
    if types:
        cells = use_cells(found, list(types), max(2, (width - _BESIDE) // CELL + 1))
        table = columns("endpoints of", 34, expand=False)
        for place in range(max(map(len, cells.values()), default=0)):
            table.add_column("primary" if place == 0 else f"+{place}", no_wrap=True, min_width=CELL - 2)
        for name, row in cells.items():
            table.add_row(short_name(name), *row)
        parts.append(table)
    if budgets := found.get("by_budget"):
        parts += [Text(), _listed("budget", budgets, width)]
    parts.append(Text("calls used of those allowed in a period; where full, time to the next slot", style=QUIET))
    return parts


def slots_by_endpoint(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw a row per endpoint and per budget."""
    return _listed("endpoint", found["by_endpoint"] | found.get("by_budget", {}), width)


def _listed(what: str, entries: Mapping[str, Any], width: int) -> Table:
    table = columns(what, 40, bar=True, numbers=("used", "next slot"))
    for name in ("limit", "health"):
        table.add_column(name)
    wide = width >= _WIDE and len({name for entry in entries.values() for name in entry["types"]}) > 1
    if wide:
        table.add_column("of", max_width=40)
    for name, entry in entries.items():
        table.add_row(*_limited_row(name, entry), *([short_name(", ".join(entry["types"]), QUIET)] if wide else []))
    return table


def _limited_row(name: str, entry: Mapping[str, Any]) -> list[RenderableType]:
    full, well = entry["free"] <= 0, entry["health"] in WELL
    left = max(0, entry["allowed"] - entry["used"])
    return [
        short_name(name),
        bar_of((entry["used"], "█", "yellow" if full else "cyan"), (left, "░", QUIET)),
        Text(f"{entry['used']}/{entry['allowed']}", style="yellow" if full else ""),
        Text(words.next_slot(entry), style="" if full else QUIET),
        short_name(entry["limit"], QUIET),
        longest_fitting(*words.healths(entry), style="green" if well else "red"),
    ]


def team(found: Mapping[str, Any], room: int | None, width: int) -> list[RenderableType]:
    """Draw the workers, one a row, in at most `room` lines."""
    each = found["workers"]["each"]
    parts: list[RenderableType] = [Text.assemble(("workers ", QUIET), words.workers(found))]
    shown = each if room is None or len(each) <= room else each[: max(0, room - 1)]
    if shown:
        parts.append(_worker_rows(shown, named=width >= EVENTS_FROM))
    if shown and (hidden := each[len(shown) :]):  # without rows the line above says it all
        busy = sum(one["busy"] for one in hidden)
        parts.append(Text(f"and {counted(len(hidden), 'more worker')}, {busy} lanes busy", style=QUIET))
    return parts


def _worker_rows(each: Sequence[Mapping[str, Any]], *, named: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False, expand=True)
    table.add_column(no_wrap=True, justify="right")
    with_host = len({one["host"] for one in each}) > 1
    if with_host:
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for one in each:
        lanes = Text.assemble(("▮" * one["busy"], "cyan"), ("▯" * max(0, one["threads"] - one["busy"]), "dim"))
        host = [Text(safe_line(one["host"]), style=QUIET)] if with_host else []
        table.add_row(Text(str(one["pid"]), style=QUIET), *host, lanes, _doing(one, named=named))
    return table


def _doing(one: Mapping[str, Any], *, named: bool) -> Text:
    """Return a worker's state, or which endpoints it calls; with `named`, for which events."""
    if one.get("other_configuration"):
        return Text("another configuration", style="yellow")
    if one["state"] != "ready":
        return Text(one["state"], style="yellow")
    if not one["calls"]:
        return Text("idle", style=QUIET)
    if named:
        return Text(", ".join(_call(call) for call in one["calls"]))
    names = Counter(call["endpoint"] or "waiting for a slot" for call in one["calls"])
    return Text(
        ", ".join(f"{safe_line(name)} x{number}" if number > 1 else safe_line(name) for name, number in names.items())
    )


def _call(call: Mapping[str, Any]) -> str:
    event = safe_line(call["event_id"].rpartition(":")[0] or call["event_id"])
    if call["endpoint"] is None:
        return f"{event} waits for a slot"
    return f"{event} at {safe_line(call['endpoint'])} {span(call['seconds'] or 0)}"
