"""What all commands share: options, exit codes, the store, how to print for a person and for a program."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import category

import click
import msgspec

from rlm.errors import ConfigurationError, FencedError, NoSuchRunError, RLMError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rlm.settings import Settings
    from rlm.store import Store


_Command = TypeVar("_Command", bound="Callable[..., Any]")


class ExitCode(IntEnum):
    """What a command's exit status says."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REDIS = 4
    INTERRUPTED = 130
    PIPE = 141


#: Kinds of characters (Unicode's categories) that a terminal could take for commands, or that hide or turn around what
#: stands beside them: controls, formats (bidirectional marks, zero-width ones, tags), separators of lines, surrogates.
_UNSAFE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})

#: What each kind of `styled` text looks like on a terminal, in the parameters of ANSI's "select graphic rendition".
_LOOKS = {"ok": "32", "warn": "33", "error": "1;31", "busy": "36", "title": "1", "dim": "2"}
#: Marks a styled text until it is printed. Nobody outside this process can know it, so no text from outside is styled.
_MARK = f"\ue000{secrets.token_hex(8)}"
_MARKS = re.compile(f"{_MARK}([a-z]*);")

#: Under this name the contexts of a command know that it was given `--debug`.
DEBUG = "rlm.debug"


def _remember(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = ctx.meta.get(DEBUG) or value


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember,
    help="Show the traceback of an error, as RLM_DEBUG=1 does.",
)
_config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file; else $RLM_CONFIG, else ./rlm.toml, else the built-in defaults.",
)


def config_option(command: _Command) -> _Command:
    """Give a command what every one takes: `--config` and `--debug`."""
    return _config_option(debug_option(command))


class Group(click.Group):
    """A group that suggests the nearest command for a word that is none."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with."""
        import difflib  # noqa: PLC0415  # only where somebody mistyped

        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and args[0] not in known and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], known, n=2)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


def examples(*lines: str) -> str:
    """Write the examples at the end of a command's help, a line each; for `epilog`."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def exit_code_of(error: RLMError) -> ExitCode:
    """Return the exit code of an error."""
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    if isinstance(error, NoSuchRunError):
        return ExitCode.NOT_FOUND
    if isinstance(error, StoreError) and not isinstance(error, FencedError):
        return ExitCode.REDIS
    return ExitCode.FAILED


class CommandError(click.ClickException):
    """Raised to end a command with a message and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(safe(message))
        self.exit_code = int(code)  # type: ignore[misc]  # click's own way

    def show(self, file: Any = None) -> None:  # noqa: ARG002  # click's signature
        """Print the message as that of any other error."""
        say_error(self.message)


def safe(text: object, keep: str = "\n\t") -> str:
    """Make text from outside safe to print: what a terminal could take for commands becomes visible, as JSON has it."""
    told = str(text)
    if told.isprintable():
        return told
    return "".join(_visible(one) if category(one) in _UNSAFE and one not in keep else one for one in told)


def safe_line(text: object) -> str:
    """Make text from outside safe to print on a line with other text: its line breaks become visible as well."""
    return safe(text, keep="")


def _visible(character: str) -> str:
    """Write a character as JSON escapes it, so that what is printed as JSON still says the same."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


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


def confirm(question: str, done: str = "removed") -> None:
    """Ask a person on stderr whether to do what cannot be undone; anything but yes ends the command.

    `done` is what was not done then: "Nothing was removed."
    """
    try:
        agreed = click.confirm(safe(question), err=True)
    except click.Abort:  # there is nobody to ask, or Ctrl-C
        say("")
        agreed = False
    if not agreed:
        raise CommandError(f"Nothing was {done}. With --yes it is done without asking.")


def show(text: str = "") -> None:
    """Print a line of the answer."""
    click.echo(_rendered(text, coloured=is_coloured()))


def print_json(document: Any) -> None:
    """Print one JSON document on stdout. What `safe` changes in it stands in texts, where JSON means the same by it."""
    click.echo(safe(msgspec.json.format(msgspec.json.encode(document), indent=2).decode()))


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say how many it would be, and change nothing.")


@contextmanager
def store_of(config: Path | None) -> Iterator[Store]:
    """Load the settings and open their store, the embedded server being started where that is configured."""
    from rlm.settings import load_settings  # noqa: PLC0415  # costs a tenth of a second, so only where it is needed

    with opened(load_settings(config)) as store:
        yield store


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """Open the store of `settings` and see that it can be reached."""
    from rlm.store import open_store  # noqa: PLC0415  # see store_of
    from rlm.store.connect import translated  # noqa: PLC0415

    with open_store(settings) as store:
        with translated(store.client):
            store.client.ping()
        yield store


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 event`, `1,785 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def age(seconds: float | None) -> str:
    """Write how long ago something was, in its largest unit; a dash where that is not known."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def one_line(text: object, width: int) -> str:
    """Put a text into one line of at most `width` characters, for a table."""
    line = " ".join(str(text).split())
    return line if len(line) <= width else f"{line[: width - 3]}..."


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
