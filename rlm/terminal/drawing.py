"""The elements of pictures: a frame, tables, bars. The same pictures go to a terminal and into a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlm.core.run import State

#: The style of less important text.
QUIET = "dim"
#: The widest picture, columns.
WIDEST = 160


def state_text(state: str) -> Text:
    """Return the state of a run in its colour."""
    colours = {State.COMPLETED: "green", State.PARTIAL: "yellow", State.CANCELLED: "yellow", State.FAILED: "red"}
    return Text(state, style=f"bold {colours.get(State(state), 'cyan')}")


def picture(title: Text, parts: Iterable[RenderableType]) -> RenderableType:
    """Return parts in a frame as wide as the terminal."""
    title.stylize_before("not dim")  # otherwise it gets the border's style
    frame = Panel(Group(*parts), box=box.ROUNDED, title=title, title_align="left", border_style=QUIET)
    return Constrain(frame, WIDEST)


def columns(*headings: str) -> Table:
    """Return a table without lines; a heading that begins with # is over numbers, ~ over bars."""
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=QUIET, expand="~" in headings)
    for heading in headings:
        is_number = heading.startswith("#")
        justify, ratio = "right" if is_number else "left", 1 if heading == "~" else None
        grid.add_column(heading.lstrip("#~"), justify=justify, no_wrap=is_number, ratio=ratio)  # type: ignore[arg-type]
    return grid


def table(headings: str, rows: Iterable[Sequence[RenderableType | float]]) -> Table:
    """Return a table with rows; headings are separated by `|`, each with the style of its cells after a colon.

    A number that is 0 is a dash.
    """
    heads = [heading.partition(":") for heading in headings.split("|")]
    grid = columns(*(heading for heading, *_ in heads))
    for row in rows:
        grid.add_row(*(_cell(value, style) for value, (*_, style) in zip(row, heads, strict=True)))
    return grid


def _cell(value: RenderableType | float, style: str) -> RenderableType:
    if isinstance(value, int | float):
        return Text(f"{value:,.0f}", style) if round(value) else Text("-", QUIET)
    return Text(value, style, overflow="fold") if isinstance(value, str) else value


def facts(rows: Iterable[tuple[str, Text]]) -> Table:
    """Return a row for each fact: its name and its value."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET)
    grid.add_column()
    for row in rows:
        grid.add_row(*row)
    return grid


def bar(part: float, whole: float, colour: str = "cyan") -> RenderableType:
    """Return a bar that fills its column as far as `part` is of `whole`; nothing of nothing."""
    return Bar(whole, 0, part, color=colour) if whole > 0 else Text()
