"""Bars and curves made of characters."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.text import Text

from rlm.core.text import safe_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

#: The narrowest that a bar gets, columns.
NARROWEST = 6

_LEVELS, _ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
_IN_ASCII = {"█": "#", "▓": "=", "░": ".", "▮": "#", "▯": "."}


class Bar:
    """A bar as wide as there is room, of parts that are told apart without colours as well.

    Each part is (number, character, style); the last one takes what rounding leaves.
    """

    def __init__(self, *parts: tuple[float, str, str]) -> None:
        self._parts = parts

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        widths = shares([number for number, _, _ in self._parts], options.max_width)
        bar = Text(no_wrap=True, end="")
        for width, (_, character, style) in zip(widths, self._parts, strict=True):
            bar.append(_drawable(character, ascii_only=options.ascii_only) * width, style)
        yield bar

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        """Tell rich how wide it may be."""
        return Measurement(min(NARROWEST, options.max_width), options.max_width)


def shares(numbers: Sequence[float], width: int) -> list[int]:
    """Divide `width` columns in the proportion of the numbers: what is not 0 has one, what is not all leaves one."""
    whole = sum(numbers)
    if whole <= 0:
        return [0] * (len(numbers) - 1) + [width]
    found = [max(1, int(number * width / whole)) if number > 0 else 0 for number in numbers]
    largest = max(range(len(numbers)), key=lambda index: (numbers[index], index))
    found[largest] = max(0, found[largest] + width - sum(found))
    while sum(found) > width:  # narrower than there are parts
        found[max(range(len(found)), key=lambda index: found[index])] -= 1
    return found


class Name:
    """A name on one line of a column that may be too narrow for it: cut in the middle, for its end tells it apart."""

    def __init__(self, name: str, style: str = "") -> None:
        self._text = Text(safe_line(name), style=style, no_wrap=True, overflow="ellipsis")

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        yield cut(self._text, options.max_width, "..." if options.ascii_only else "…")

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        """Tell rich how wide it may be."""
        width = self._text.cell_len
        return Measurement(min(NARROWEST, width, options.max_width), min(width, options.max_width))


class Wordings:
    """The longest of several wordings of the same that has room on its line; of the shortest the beginning."""

    def __init__(self, *wordings: str, style: str = "") -> None:
        self._wordings = [Text(safe_line(one), style=style, no_wrap=True, overflow="ellipsis") for one in wordings]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        fitting = [one for one in self._wordings if one.cell_len <= options.max_width]
        yield max(fitting, key=lambda one: one.cell_len, default=min(self._wordings, key=lambda one: one.cell_len))

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        """Tell rich how wide it may be."""
        widths = [min(one.cell_len, options.max_width) for one in self._wordings]
        return Measurement(min(widths), max(widths))


def cut(text: Text, width: int, mark: str) -> Text:
    """Cut a text in the middle to so many columns; one with wide characters loses its end instead."""
    over = text.cell_len - width
    if over <= 0 or text.cell_len != len(text) or width <= 2 * len(mark):
        return text
    head = (width - len(mark)) // 2
    return Text.assemble(text[:head], mark, text[head + over + len(mark) :], no_wrap=True, overflow="ellipsis")


def lanes(busy: int, threads: int, *, ascii_only: bool = False) -> Text:
    """Draw the lanes of a worker, the busy ones filled."""
    drawn = Text()
    drawn.append(_drawable("▮", ascii_only=ascii_only) * min(busy, threads), "cyan")
    drawn.append(_drawable("▯", ascii_only=ascii_only) * max(0, threads - busy), "dim")
    return drawn


def curve(values: Iterable[float], width: int, *, ascii_only: bool = False) -> str:
    """Draw numbers as a curve of `width` columns, newest last: each column the mean of its part, 0 at the bottom."""
    numbers = list(values)
    if not numbers:
        return ""
    width = min(width, len(numbers))
    cuts = [index * len(numbers) // width for index in range(width + 1)]
    means = [sum(numbers[begin:end]) / (end - begin) for begin, end in pairwise(cuts)]
    levels = _ASCII_LEVELS if ascii_only else _LEVELS
    top = max(*means, 1e-9) if len(means) > 1 else max(means[0], 1e-9)
    return "".join(levels[min(len(levels) - 1, round(max(0.0, one) / top * (len(levels) - 1)))] for one in means)


def _drawable(character: str, *, ascii_only: bool) -> str:
    return _IN_ASCII.get(character, character) if ascii_only else character
