"""How a command prints: coloured text for a person, safe everywhere; one JSON document for a program.

A command prints its answer both ways. With `--json` only `print_json` writes to stdout, otherwise only the others.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import click
import msgspec

from rlm.core.text import LONGEST_LINE, cut, safe, safe_line, safe_words

#: The ANSI "select graphic rendition" parameters of each kind of `styled` text.
_LOOKS = {"ok": "32", "warn": "33", "error": "1;31", "busy": "36", "info": "36", "dim": "2", "fail": "1;31"}
#: Marks a styled text until it is printed. It is random, so that untrusted text cannot style itself.
_MARK = f"<{secrets.token_hex(8)}:"
_TIME = re.compile(r"\d{4}-(\d\d-\d\d)T(\d\d:\d\d:\d\d)\.\d+Z")


def is_terminal(*, err: bool = False) -> bool:
    """Return whether stdout (`err`: stderr) is a terminal that can draw, not a pipe, a file or a dumb terminal."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_coloured(*, err: bool = False) -> bool:
    """Return whether stdout (`err`: stderr) gets colours: a terminal or with FORCE_COLOR, unless NO_COLOR is set."""
    return not os.environ.get("NO_COLOR") and (bool(os.environ.get("FORCE_COLOR")) or is_terminal(err=err))


def styled(text: object, kind: str) -> str:
    """Mark a text as of a kind in `_LOOKS`; it is coloured when `show`, `say` or `table` print it."""
    return f"{_MARK}{kind};{text}{_MARK};"


def _coloured(text: str, *, err: bool = False) -> str:
    """Return a text made safe, with colours or nothing for its marks."""
    looks = _LOOKS if is_coloured(err=err) else {}
    return re.sub(f"{_MARK}([a-z]*);", lambda at: f"\x1b[{looks.get(at[1], '0')}m" if looks else "", safe(text))


def _echo(text: str, *, err: bool = False, hang: int = 0) -> None:
    """Print a text, wrapped at words on a terminal, lines but the first indented by `hang`."""
    text = _coloured(text, err=err)
    if is_terminal(err=err):
        import shutil

        width, indent = shutil.get_terminal_size().columns, " " * hang
        lines = text.split("\n")
        text = "\n".join(
            line if line.startswith(" ") else click.wrap_text(line, width, subsequent_indent=indent) for line in lines
        )
    click.echo(text, err=err, color=is_coloured(err=err))


def say(text: str) -> None:
    """Print a message on stderr."""
    _echo(safe_words(text), err=True)


def say_error(words: str) -> None:
    """Print an error message on stderr."""
    say(f"{styled('Error:', 'error')} {words}")


def show(text: str = "", hang: int = 0) -> None:
    """Print a part of the answer on stdout."""
    if not wants_json():
        _echo(text, hang=hang)


def remember(ctx: click.Context, flag: click.Parameter, value: bool) -> None:
    """Store in the `meta` of a context whether a flag was given, before or after the command."""
    ctx.meta[f"rlm.{flag.name}"] = value or ctx.meta.get(f"rlm.{flag.name}")


def wants_json() -> bool:
    """Return whether the command was given `--json`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("rlm.json"))


def print_json(document: Any) -> None:
    """Print one JSON document on stdout, if `--json` was given; `safe` turns characters into equivalent escapes."""
    if wants_json():
        click.echo(safe(msgspec.json.format(msgspec.json.encode(document), indent=2).decode()))


def table(headings: list[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()) -> None:
    """Print a table, with a dash for None, times to the second, and the columns in `right` aligned right.

    On a terminal that is too narrow, cells are wrapped. Elsewhere they are not, because programs read them.
    """
    if wants_json():
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for name in headings:
        grid.add_column(justify="right" if name in right else "left", overflow="fold")
    for row in [headings, *rows]:
        cells = ("-" if cell is None else cut(safe_line(_TIME.sub(r"\1 \2", str(cell))), LONGEST_LINE) for cell in row)
        grid.add_row(*(Text.from_ansi(_coloured(cell)) for cell in cells))
    width, coloured = None if is_terminal() else 1_000_000, is_coloured()
    system: Any = "standard" if coloured else None
    console = Console(force_terminal=coloured, color_system=system, width=width, highlight=False)
    with console.capture() as captured:
        console.print(grid)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=coloured)


def show_verdict(verdict: str, name: str, message: str, remedy: str, names: int) -> None:
    """Print a verdict, a name (the longest has `names` characters), what was found, and the remedy, in columns."""
    hang = names + 8
    what, remedy = (cut(safe_line(text).strip(), LONGEST_LINE) for text in (message, remedy))
    show(f"{styled(f'{verdict:<4}', verdict)}  {safe_line(name):<{names}}  {what}", hang)
    if remedy:
        show(f"{'':<{hang}}> {remedy}")
