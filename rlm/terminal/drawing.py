"""The elements of pictures: a frame, tables, bars. The same pictures go to a terminal and into a pipe."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlm.core.run import State
from rlm.core.text import safe_line

#: The style of less important text.
QUIET = "dim"
#: The widest picture, columns.
WIDEST = 160

#: The rich style of each state of a run.
STATE_STYLES = dict.fromkeys(State, "bold cyan") | {
    State.COMPLETED: "bold green",
    State.PARTIAL: "bold yellow",
    State.CANCELLED: "bold yellow",
    State.FAILED: "bold red",
}


def state_text(state: str) -> Text:
    """Return the state of a run in its colour."""
    return Text(state, style=STATE_STYLES.get(State(state), "bold"))


def picture(title: Text, parts: Iterable[RenderableType]) -> RenderableType:
    """Return parts in a frame as wide as the terminal."""
    title.stylize_before("not dim")  # otherwise it gets the border's style
    frame = Panel(Group(*parts), box=box.ROUNDED, title=title, title_align="left", border_style=QUIET)
    return Constrain(frame, WIDEST)


def columns(*headings: str, bar: bool = False) -> Table:
    """Return a table without lines; headings that begin with # are over numbers, `bar` adds one after the first."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=QUIET, expand=bar)
    for place, heading in enumerate(headings):
        is_number = heading.startswith("#")
        table.add_column(heading.removeprefix("#"), justify="right" if is_number else "left", no_wrap=is_number)
        if bar and not place:
            table.add_column("", ratio=1)
    return table


def facts(rows: Iterable[tuple[str, Text]]) -> Table:
    """Return a row for each fact: its name and its value."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET)
    grid.add_column()
    for row in rows:
        grid.add_row(*row)
    return grid


def name_text(name: str, style: str = "") -> Text:
    """Return a name, which may be foreign."""
    return Text(safe_line(name), style=style, overflow="fold")


def number(value: int, style: str = "") -> Text:
    """Return a number as text for a table; a dash for 0."""
    return Text(f"{value:,}", style=style) if value else Text("-", style=QUIET)


def bar(part: float, whole: float, colour: str = "cyan") -> RenderableType:
    """Return a bar that fills its column as far as `part` is of `whole`; nothing of nothing."""
    return Bar(whole, 0, part, color=colour) if whole > 0 else Text()
