"""The live picture of a run for a terminal: countdown, forecast, a bar per type, calls per endpoint, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlm.demo.phrases import forecast, progress, spare_time, workers
from rlm.run import MOVES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rlm.demo.moment import Moment, Progress, Use

#: Endpoints of a type that are shown one by one; what is beyond is left out.
SHOWN_ENDPOINTS = 6
#: The widest the picture gets, columns.
WIDEST = 110

_GOOD, _BUSY, _BAD, _QUIET = "green", "yellow", "bold red", "dim"


def picture(moment: Moment, title: str) -> RenderableType:
    """Draw a run at one moment."""
    return Panel(
        Group(
            _countdown(moment),
            _types(moment),
            _workers(moment),
            Text("at each endpoint: calls used of those allowed in a period", style=_QUIET),
        ),
        title=Text(title, style="bold"),
        title_align="left",
        padding=(1, 2, 0, 2),
    )


def _countdown(moment: Moment) -> RenderableType:
    over = moment.state not in MOVES
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(
        total=moment.window_seconds,
        completed=min(moment.elapsed_seconds, moment.window_seconds),
        complete_style="cyan",
        finished_style="cyan",
    )
    grid.add_row(bar, Text(spare_time(moment), style="bold" if over else "bold cyan"))
    grid.add_row(Text(forecast(moment)), Text(moment.state, style="bold"))
    return grid


def _types(moment: Moment) -> RenderableType:
    columns = min(SHOWN_ENDPOINTS, max(len(one.endpoints) for one in moment.types))
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, expand=True, header_style=_QUIET)
    table.add_column("event type", no_wrap=True)
    table.add_column("", ratio=1, min_width=8)
    table.add_column("done", justify="right", no_wrap=True)
    table.add_column("primary", justify="right", no_wrap=True)
    for number in range(1, columns):
        table.add_column(f"+{number}", justify="right", no_wrap=True)
    for one in moment.types:
        table.add_row(one.name, _bar(one), _count(one), *map(_calls, one.endpoints[:columns]))
    return table


def _bar(one: Progress) -> RenderableType:
    done = one.total > 0 and one.settled == one.total
    return ProgressBar(
        total=max(1, one.total), completed=one.settled, complete_style=_GOOD if done else "blue", finished_style=_GOOD
    )


def _count(one: Progress) -> Text:
    return Text(progress(one.completed, one.total), style=_BAD if one.failed else "")


def _calls(use: Use) -> Text:
    if use.used > use.limit:
        style = _BAD
    elif use.used == use.limit:
        style = _BUSY
    else:
        style = "" if use.used else _QUIET
    return Text(f"{use.used}/{use.limit}", style=style)


def _workers(moment: Moment) -> Text:
    by_worker = ("" if moment.threads < 10 else " ").join(map(str, moment.busy))  # noqa: PLR2004  # one digit each
    return Text(f"{workers(moment)}: {by_worker}" if by_worker else workers(moment))
