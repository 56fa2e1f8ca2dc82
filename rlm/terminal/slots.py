"""What endpoints and budgets have used of their limits, and when their next slot is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from rlm.core.window import WELL
from rlm.terminal import words
from rlm.terminal.bars import NARROWEST, Bar, Name, Wordings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

#: Columns that a cell `30/30 12 s` takes, with what separates it from the next.
CELL = 13
#: Columns beside the cells: in a table of their own, and in that of the types.
_BESIDE, _BESIDE_MERGED = 24, 76
#: From so many columns on, a line of an endpoint has room for its types.
_WIDE = 110

_QUIET = "dim"


def merged_room(width: int) -> int:
    """Tell how many cells there is room for beside the bars of the types."""
    return max(2, (width - _BESIDE_MERGED) // CELL + 1)


def use_cells(found: Mapping[str, Any], types: Sequence[str], room: int) -> dict[str, list[Text]]:
    """Return for each type a cell for each of its endpoints, the primary first; what has no room goes into the last."""
    cells = {}
    for name in types:
        entries = [entry for entry in found["by_endpoint"].values() if name in entry["types"]]
        alone = entries if len(entries) <= room else entries[: room - 1]
        cells[name] = [_cell(entry) for entry in alone]
        if rest := entries[len(alone) :]:
            used, allowed = sum(one["used"] for one in rest), sum(one["allowed"] for one in rest)
            cells[name].append(Text(f"{len(rest)} more {used}/{allowed}"))
    return cells


def _cell(entry: Mapping[str, Any]) -> Text:
    use = f"{entry['used']}/{entry['allowed']}"
    if entry["health"] not in WELL:
        return Text(entry["health"], style="red")
    if entry["free"] > 0:
        return Text(use, style="" if entry["used"] else _QUIET)
    return Text.assemble((use, "yellow"), (f" {words.next_slot(entry)}", _QUIET))


def slots_by_type(found: Mapping[str, Any], types: Mapping[str, Any], width: int) -> list[RenderableType]:
    """Draw a line per type with a cell per endpoint, below it the budgets, and say what the cells mean."""
    parts: list[RenderableType] = []
    if types:
        cells = use_cells(found, list(types), max(2, (width - _BESIDE) // CELL + 1))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=_QUIET)
        table.add_column("endpoints of", max_width=34, min_width=8)
        for number in range(max(map(len, cells.values()), default=0)):
            table.add_column("primary" if number == 0 else f"+{number}", no_wrap=True, min_width=CELL - 2)
        for name, row in cells.items():
            table.add_row(Name(name), *row)
        parts.append(table)
    if budgets := found.get("by_budget"):
        parts += [Text(), _listed("budget", budgets, width)]
    parts.append(Text("calls used of those allowed in a period; where full, time to the next slot", style=_QUIET))
    return parts


def slots_by_endpoint(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw a line per endpoint, and per budget."""
    return _listed("endpoint", found["by_endpoint"] | found.get("by_budget", {}), width)


def _listed(what: str, entries: Mapping[str, Any], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=True, header_style=_QUIET)
    table.add_column(what, max_width=40, min_width=8)
    table.add_column("", ratio=1, width=NARROWEST, no_wrap=True)
    for name in ("used", "next slot"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("limit", "health"):
        table.add_column(name)
    wide = width >= _WIDE and len({name for entry in entries.values() for name in entry["types"]}) > 1
    if wide:
        table.add_column("of", max_width=40)
    for name, entry in entries.items():
        table.add_row(*_row(name, entry), *([Name(", ".join(entry["types"]), _QUIET)] if wide else []))
    return table


def _row(name: str, entry: Mapping[str, Any]) -> list[RenderableType]:
    full, well = entry["free"] <= 0, entry["health"] in WELL
    left = max(0, entry["allowed"] - entry["used"])
    return [
        Name(name),
        Bar((entry["used"], "█", "yellow" if full else "cyan"), (left, "░", _QUIET)),
        Text(f"{entry['used']}/{entry['allowed']}", style="yellow" if full else ""),
        Text(words.next_slot(entry), style="" if full else _QUIET),
        Name(entry["limit"], _QUIET),
        Wordings(*words.healths(entry), style="green" if well else "red"),
    ]
