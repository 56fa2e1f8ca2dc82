"""How a command prints: for a person, coloured on a terminal and safe everywhere; for a program, one JSON document."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm.text import safe, safe_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


#: What each kind of `styled` text looks like on a terminal, in the parameters of ANSI's "select graphic rendition".
_LOOKS = {"ok": "32", "warn": "33", "error": "1;31", "busy": "36", "title": "1", "dim": "2"}


#: Marks a styled text until it is printed. Nobody outside this process can know it, so no text from outside is styled.
_MARK = f"\ue000{secrets.token_hex(8)}"


_MARKS = re.compile(f"{_MARK}([a-z]*);")


def is_terminal(*, err: bool = False) -> bool:
    """Tell whether stdout (`err`: stderr) is a terminal on which one can draw, not a pipe, a file or a dumb one."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_coloured(*, err: bool = False) -> bool:
    """Tell whether stdout (`err`: stderr) is to have colours: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return is_terminal(err=err) and not os.environ.get("NO_COLOR")


def styled(text: object, kind: str) -> str:
    """Mark a text as `ok`, `warn`, `error`, `busy`, `title` or `dim`, to be coloured where it is printed, if at all.

    `show`, `say` and `table` print it; until then it holds the mark, so it goes through nothing else. It may stand in
    the middle of a line.
    """
    if kind not in _LOOKS:
        raise ValueError(f"no kind of text is called {kind!r}; there are {', '.join(_LOOKS)}")
    return f"{_MARK}{kind};{text}{_MARK};"


def _rendered(text: str, *, coloured: bool) -> str:
    """Make a text safe to print, and turn its marks into colours or into nothing."""
    return _MARKS.sub(lambda mark: f"\x1b[{_LOOKS.get(mark[1], '0')}m" if coloured else "", safe(text))


def say(text: str) -> None:
    """Tell a person something on stderr."""
    click.echo(_rendered(text, coloured=is_coloured(err=True)), err=True)


def say_error(words: str) -> None:
    """Tell a person what went wrong."""
    say(f"{styled('Error:', 'error')} {words}")


def show(text: str = "") -> None:
    """Print a line of the answer."""
    click.echo(_rendered(text, coloured=is_coloured()))


def print_json(document: Any) -> None:
    """Print one JSON document on stdout. What `safe` changes in it stands in texts, where JSON means the same by it."""
    click.echo(safe(msgspec.json.format(msgspec.json.encode(document), indent=2).decode()))


def table(headings: list[str], rows: list[list[str]], align: Callable[[int], bool] | None = None) -> None:
    """Print a table; `align` tells which columns are numbers and stand to the right."""
    rows = [[safe_line(cell) for cell in row] for row in rows]
    widths = [max(_width(row[index]) for row in [headings, *rows]) for index in range(len(headings))]
    numeric = align or (lambda index: index > 0)
    for row in [headings, *rows]:
        cells = [
            " " * (width - _width(cell)) + cell if numeric(i) else cell + " " * (width - _width(cell))
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        show("  ".join(cells).rstrip())


def fitting_table(
    headings: list[str],
    rows: list[list[str]],
    align: Callable[[int], bool] | None = None,
    *,
    spare: Sequence[str] = (),
) -> None:
    """Print a table; on a terminal that is too narrow for it without the columns in `spare`, the first of them first.

    Anywhere else all of it is printed: who reads a pipe counts on the columns.
    """
    numeric = align or (lambda index: index > 0)
    kept = list(range(len(headings)))
    room = shutil.get_terminal_size().columns if is_terminal() else sys.maxsize
    widths = [max(_width(row[index]) for row in [headings, *rows]) for index in kept]
    for name in spare:
        if sum(widths[index] + 2 for index in kept) - 2 > room:
            kept.remove(headings.index(name))
    cut = [[row[index] for index in kept] for row in rows]
    table([headings[index] for index in kept], cut, lambda place: numeric(kept[place]))


def _width(cell: str) -> int:
    """Return how many characters of a cell are seen: its marks are not."""
    return len(_MARKS.sub("", cell))
