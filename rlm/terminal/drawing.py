"""The elements of pictures: a frame, tables, bars, curves, and names cut to their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from rlm.core.run import State
from rlm.core.text import safe_line

#: The style of less important text.
QUIET = "dim"
#: The widest picture, columns.
WIDEST = 160
#: Columns of the border.
BORDER = 4
#: The narrowest bar, columns.
NARROWEST = 6
#: The narrowest column of limits, for `30/minute`.
NARROWEST_LIMIT = 9
#: What a title takes in the border beside its own columns; also the padding between two columns.
_BESIDE = 2
#: The inner width from which facts have two columns.
_FACTS_FROM = 40

#: Replacements for a terminal with only ASCII.
_IN_ASCII = str.maketrans("▁▂▃▄▅▆▇█▓░▮▯↑↓→", "_.-=+*%#=.#.^v=")

#: The rich style of each state of a run.
STATE_STYLES = {
    State.DRAINING: "cyan",
    State.PLANNING: "cyan",
    State.RUNNING: "bold cyan",
    State.FINISHING: "cyan",
    State.COMPLETED: "bold green",
    State.PARTIAL: "bold yellow",
    State.CANCELLED: "bold yellow",
    State.FAILED: "bold red",
}


def state_text(state: str) -> Text:
    """Return the state of a run in its colour."""
    return Text(state, style=STATE_STYLES.get(state, "bold"))  # type: ignore[call-overload]


class Picture:
    """Parts in a frame as wide as the terminal; `draw` returns them for a console and the frame's inner width."""

    def __init__(self, title: Text, draw: Callable[[Console, ConsoleOptions], Iterable[RenderableType]]) -> None:
        title.stylize_before("not dim")  # otherwise it gets the border's style
        self._title = title
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        width = min(options.max_width, WIDEST)
        inside, title = (
            max(1, width - BORDER),
            self._title if self._title.cell_len + _BESIDE <= width - BORDER else None,
        )
        parts = self._draw(console, options.update(width=inside, height=None))
        lines = Group(*([] if title else [self._title, Text()]), *parts)  # in the border it would be cut
        frame = Panel(lines, title=title, title_align="left", border_style=QUIET, padding=(0, 1), width=width)
        for segment in console.render(frame, options):
            yield segment._replace(text=segment.text.translate(_IN_ASCII)) if options.ascii_only else segment


class Columns(Table):
    """A table that omits columns rather than cut their values: bars first, then those in `spare`, then the last ones.

    `spare` has headings.
    """

    spare: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        needed = [self._needed(console, options.update(width=WIDEST), column) for column in self.columns]
        kept = list(range(len(needed)))
        while len(kept) > 1 and sum(needed[index] + _BESIDE for index in kept) - _BESIDE > options.max_width:
            kept.remove(min(kept, key=self._rank))
        narrower = copy(self)
        narrower.columns = [replace(self.columns[index], _index=place) for place, index in enumerate(kept)]
        yield from Table.__rich_console__(narrower, console, options)

    def _needed(self, console: Console, wide: ConsoleOptions, column: Column) -> int:
        """Return the least width, without padding, at which no value of a column is cut."""
        measured = self._measure_column(console, wide, column)
        width = measured.maximum if column.no_wrap else measured.minimum
        return width - self._get_padding_width(column._index)  # noqa: SLF001  # of the same library

    def _rank(self, index: int) -> tuple[int, int]:
        """Return the place of a column in the order in which they are omitted; the first column stays."""
        heading = str(self.columns[index].header)
        if index == 0 or not heading:
            return (3, 0) if index == 0 else (0, 0)
        return (1, self.spare.index(heading)) if heading in self.spare else (2, -index)


def columns(
    name: str, widest: int | None, *, bar: bool = False, numbers: Sequence[str] = (), expand: bool = True
) -> Columns:
    """Return a table without lines: a column of names, a column of bars if wanted, and columns of numbers."""
    table = Columns(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=QUIET, expand=expand)
    table.add_column(name, max_width=widest, min_width=8)
    if bar:
        table.add_column("", ratio=1, width=NARROWEST, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def facts(rows: Iterable[tuple[str, Text]], width: int) -> RenderableType:
    """Return a row for each fact: its name and its value, in two columns if the `width` suffices."""
    if width < _FACTS_FROM:
        return Group(*(Text.assemble((f"{name}: ", QUIET), value) for name, value in rows))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET, no_wrap=True)
    grid.add_column()
    for row in rows:
        grid.add_row(*row)
    return grid


def number(value: int, style: str = "") -> Text:
    """Return a number as text for a table; a dash for 0."""
    return Text(f"{value:,}", style=style) if value else Text("-", style=QUIET)


class Fitting:
    """Text that `fit` adapts to the width of its column, from `narrowest` to `widest` columns."""

    def __init__(self, fit: Callable[[ConsoleOptions], Text], narrowest: int, widest: int) -> None:
        self._fit, self._narrowest, self._widest = fit, narrowest, widest

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        yield self._fit(options)

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        """Return the narrowest and the widest width."""
        return Measurement(min(self._narrowest, options.max_width), min(self._widest, options.max_width))


def bar_of(*parts: tuple[float, str, str]) -> Fitting:
    """Return a bar that fills its column; each part is (number, character, style)."""

    def fit(options: ConsoleOptions) -> Text:
        widths = shares([number for number, _, _ in parts], options.max_width)
        drawn = [(character * width, style) for width, (_, character, style) in zip(widths, parts, strict=True)]
        return Text.assemble(*drawn, no_wrap=True, end="")

    return Fitting(fit, NARROWEST, WIDEST)


def shares(numbers: Sequence[float], width: int) -> list[int]:
    """Divide `width` columns in proportion to the numbers; each number above 0 gets at least one column."""
    whole = sum(numbers)
    if whole <= 0:
        return [0] * (len(numbers) - 1) + [width]
    found = [max(1, int(number * width / whole)) if number > 0 else 0 for number in numbers]
    largest = max(range(len(numbers)), key=lambda index: (numbers[index], index))
    found[largest] = max(0, found[largest] + width - sum(found))
    while sum(found) > width:  # fewer columns than parts
        found[max(range(len(found)), key=lambda index: found[index])] -= 1
    return found


def short_name(name: str, style: str = "") -> Fitting:
    """Return a name on one line, cut in the middle if its column is too narrow: names often differ at the end."""
    text = _line(name, style)
    width = text.cell_len
    return Fitting(
        lambda options: cut(text, options.max_width, "..." if options.ascii_only else "…"), min(NARROWEST, width), width
    )


def longest_fitting(*wordings: str, style: str = "") -> Fitting:
    """Return the longest of several wordings that fits, or the beginning of the shortest."""
    texts = sorted((_line(one, style) for one in wordings), key=lambda one: one.cell_len)

    def fit(options: ConsoleOptions) -> Text:
        return next((one for one in reversed(texts) if one.cell_len <= options.max_width), texts[0])

    return Fitting(fit, texts[0].cell_len, texts[-1].cell_len)


def _line(text: str, style: str) -> Text:
    return Text(safe_line(text), style=style, no_wrap=True, overflow="ellipsis")


def cut(text: Text, width: int, mark: str) -> Text:
    """Cut a text in the middle to `width` columns; a text with wide characters is returned whole."""
    over = text.cell_len - width
    if over <= 0 or text.cell_len != len(text) or width <= 2 * len(mark):
        return text
    head = (width - len(mark)) // 2
    return Text.assemble(text[:head], mark, text[head + over + len(mark) :], no_wrap=True, overflow="ellipsis")
