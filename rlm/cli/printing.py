"""How a command prints: coloured text for a person, safe everywhere; one JSON document for a program.

A command prints its answer both ways. With `--json` only `print_json` writes to stdout, otherwise only the others.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from rlm.core.clock import isoformat, system_clock
from rlm.core.text import LONGEST_LINE, LONGEST_TEXT, columns, cut, one_line, safe, safe_line, safe_words

#: The ANSI "select graphic rendition" parameters of each kind of `styled` text.
_LOOKS = {"ok": "32", "warn": "33", "error": "1;31", "busy": "36", "title": "1", "dim": "2"}


#: Marks a styled text until it is printed. It is random, so that untrusted text cannot style itself.
_MARK = f"<{secrets.token_hex(8)}:"
_MARKS = re.compile(f"{_MARK}([a-z]*);")

#: The spaces before a word, and the word; a command in backticks is one word.
_WORDS = re.compile(r"( *)((?:`[^`]*`|[^ ])+)")
#: A time in RLM's format; the groups are the parts that a short form keeps.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.\d+Z")
#: The narrowest last column to wrap.
_LEAST_WIDTH = 12
#: Most characters of a host name on a terminal.
_LONGEST_HOST = 24
#: Cells up to this width are never cut: they are times, or ids that a user types.
_WHOLE_WIDTH = 25
#: The style of each verdict.
_VERDICT_LOOKS = {"ok": "ok", "warn": "warn", "fail": "error"}
#: Most columns for the names of verdicts on a terminal, and fewest for what was found.
_NAMES_WIDTH, _LEAST_FOUND_WIDTH = 18, 40


def is_terminal(*, err: bool = False) -> bool:
    """Return whether stdout (`err`: stderr) is a terminal that can draw, not a pipe, a file or a dumb terminal."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_coloured(*, err: bool = False) -> bool:
    """Return whether stdout (`err`: stderr) gets colours: a terminal or with FORCE_COLOR, unless NO_COLOR is set."""
    return not os.environ.get("NO_COLOR") and (bool(os.environ.get("FORCE_COLOR")) or is_terminal(err=err))


def styled(text: object, kind: str) -> str:
    """Mark a text as `ok`, `warn`, `error`, `busy`, `title` or `dim`; colours are applied when it is printed.

    The result contains marks, so only `show`, `say` and `table` may print it. Raise ValueError for any other kind.
    """
    if kind not in _LOOKS:
        raise ValueError(f"no kind of text is called {kind!r}; there are {', '.join(_LOOKS)}")
    return f"{_MARK}{kind};{text}{_MARK};"


def _echo(text: str, *, err: bool = False) -> None:
    """Print a text, made safe, with colours or nothing for its marks."""
    coloured = is_coloured(err=err)
    shown = _MARKS.sub(lambda mark: f"\x1b[{_LOOKS.get(mark[1], '0')}m" if coloured else "", safe(text))
    click.echo(shown, err=err, color=bool(os.environ.get("FORCE_COLOR")) or None)  # else click drops them in a pipe


def say(text: str) -> None:
    """Print a message on stderr, wrapped at words on a terminal."""
    _echo(_wrapped(safe_words(text), err=True), err=True)


def say_error(words: str) -> None:
    """Print an error message on stderr."""
    say(f"{styled('Error:', 'error')} {words}")


def remember(ctx: click.Context, flag: click.Parameter, value: bool) -> None:
    """Store in the `meta` of a context whether a flag was given, before or after the command."""
    ctx.meta[f"rlm.{flag.name}"] = value or ctx.meta.get(f"rlm.{flag.name}")


def wants_json() -> bool:
    """Return whether the command was given `--json`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("rlm.json"))


def show(text: str = "") -> None:
    """Print a line of the answer on stdout."""
    if not wants_json():
        _echo(text)


def show_words(text: str, indent: int = 0) -> None:
    """Print sentences, wrapped at words on a terminal: the first line indented by `indent`, the others by two more."""
    first, *others = _broken(text, room() - indent - 2) if indent else [_wrapped(text)]
    for line in [f"{'':<{indent}}{first}", *(f"{'':<{indent + 2}}{other}" for other in others)]:
        show(line)


def _wrapped(text: str, *, err: bool = False) -> str:
    """Wrap a text for a terminal at words, but neither a command in backticks nor a line that begins with a space."""
    if not is_terminal(err=err):
        return text
    width = _columns(err=err)
    return "\n".join("\n".join(_broken(line, width)) for line in text.split("\n"))


def _broken(line: str, width: int) -> Iterator[str]:
    """Yield the lines into which a line is wrapped."""
    if width_of(line) <= width or line.startswith(" "):
        yield line
        return
    taken = ""
    for spaces, word in _WORDS.findall(line):
        if taken and width_of(f"{taken}{spaces}{word}") > width:
            yield taken
            taken = word
        else:
            taken += f"{spaces}{word}"
    yield taken


def _columns(*, err: bool) -> int:
    """Return the width of the terminal of stdout (`err`: stderr)."""
    try:
        return os.get_terminal_size((sys.stderr if err else sys.stdout).fileno()).columns or sys.maxsize
    except (OSError, ValueError):  # not a real terminal
        import shutil

        return shutil.get_terminal_size().columns


def room() -> int:
    """Return the width for the answer: that of the terminal, elsewhere unlimited."""
    return _columns(err=False) if is_terminal() else sys.maxsize


def width_of(cell: str) -> int:
    """Return how many columns a text takes; marks take none."""
    return columns(_MARKS.sub("", cell))


def print_json(document: Any) -> None:
    """Print one JSON document on stdout, if `--json` was given; `safe` turns characters into equivalent escapes."""
    if wants_json():
        click.echo(safe(msgspec.json.format(msgspec.json.encode(document), indent=2).decode()))


def table(
    headings: list[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Collection[str] | None = None,
    spare: Sequence[str] = (),
    whole: bool = False,
) -> None:
    """Print a table, with a dash for None; the columns in `right` are aligned right, by default all but the first.

    On a terminal that is too narrow, times are shortened, then the columns in `spare` are left out one by one, then
    long cells are cut and the last column is wrapped. With `whole`, no cell is cut. Elsewhere all columns are printed,
    because programs that read a pipe need them; only extremely long cells are cut.
    """
    if wants_json():
        return
    columns = [
        ["-" if cell is None else safe_line(cell) for cell in column] for column in zip(headings, *rows, strict=True)
    ]
    if _width_over(columns) > 0:
        columns = [[short_time(cell) for cell in column] for column in columns]
    at_right = range(1, len(headings)) if right is None else [headings.index(name) for name in right]
    shown = dict(enumerate(columns))
    for name in spare:
        if _width_over(shown.values()) > 0:
            del shown[headings.index(name)]
    *widths, last = (max(map(width_of, column)) for column in shown.values())
    if not whole:
        widths = _fitted(widths, room() - min(last, 2 * _LEAST_WIDTH) - 2)
    left = room() - sum(width + 2 for width in widths)
    is_wrapped = last > left >= _LEAST_WIDTH
    if is_wrapped:
        last = left
    elif not whole:
        last = min(last, max(left, _WHOLE_WIDTH), LONGEST_TEXT)
    for row in zip(*shown.values(), strict=True):
        lines = list(_broken(row[-1], last)) if is_wrapped else [row[-1]]
        for cells in [[*row[:-1], lines[0]], *([*[""] * len(widths), line] for line in lines[1:])]:
            padded = [
                _fit(cell, width, right=index in at_right, whole=whole)
                for index, cell, width in zip(shown, cells, [*widths, last], strict=True)
            ]
            show("  ".join(padded).rstrip())


def _width_over(columns: Collection[Sequence[str]]) -> int:
    """Return by how much a table is wider than the terminal."""
    return sum(max(map(width_of, column)) for column in columns) + 2 * (len(columns) - 1) - room()


def _fitted(widths: Sequence[int], most: int) -> list[int]:
    """Narrow the widest columns until all take `most`, but none below the width of an id or a time."""
    fitted = [min(width, LONGEST_TEXT) for width in widths]
    while (over := sum(fitted) + 2 * (len(fitted) - 1) - most) > 0 and max(fitted, default=0) > _WHOLE_WIDTH:
        widest = fitted.index(max(fitted))
        second = max((one for one in fitted if one < fitted[widest]), default=0)
        fitted[widest] = max(_WHOLE_WIDTH, second, fitted[widest] - over)
    return fitted


def _fit(cell: str, width: int, *, right: bool, whole: bool) -> str:
    """Pad a cell to its column's width, or cut it unless it must be `whole`; a cut cell loses its marks."""
    if not whole and width_of(cell) > width:
        cell = cut(_MARKS.sub("", cell), width)
    spaces = " " * (width - width_of(cell))
    return spaces + cell if right else cell + spaces


def short_host(name: str) -> str:
    """Shorten the name of a host on a terminal."""
    return one_line(name, _LONGEST_HOST) if is_terminal() else name


def short_time(cell: str) -> str:
    """Shorten a time in RLM's format to seconds, without today's date; return other texts unchanged."""
    found = _TIME.fullmatch(cell)
    if found is None:
        return cell
    day, time = found.groups()
    return time if day == isoformat(system_clock.now())[:10] else f"{day[5:]} {time}"


def show_verdict(verdict: str, name: str, message: str, remedy: str, names: int) -> None:
    """Print a verdict, a name (the longest has `names` characters), what was found, and the remedy, in columns."""
    names = min(names, _NAMES_WIDTH) if is_terminal() else names
    indent = names + 8
    width = max(_LEAST_FOUND_WIDTH, room() - indent)
    lines = list(_broken(_finding_text(message), width))
    if remedy:
        first, *others = _broken(_finding_text(remedy), width - 2)
        lines += [f"> {first}", *(f"  {line}" for line in others)]
    name = safe_line(name)
    beside = [f"{name:<{names}}  {lines[0]}", *lines[1:]] if len(name) <= names else [name, *lines]
    show(f"{styled(f'{verdict:<4}', _VERDICT_LOOKS[verdict])}  {beside[0]}")
    for line in beside[1:]:
        show(f"{'':<{indent}}{line}")


def _finding_text(text: str) -> str:
    return cut(safe_line(text).strip(), LONGEST_LINE)
