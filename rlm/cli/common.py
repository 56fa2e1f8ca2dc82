"""What all commands share: options, exit codes, the store, how to print for a person and for a program."""

from __future__ import annotations

from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

import click
import msgspec

from rlm.errors import ConfigurationError, FencedError, NoSuchRunError, RLMError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rlm.settings import Settings
    from rlm.store import Store


class ExitCode(IntEnum):
    """What a command's exit status says."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REDIS = 4


#: Kinds of characters (Unicode's categories) that a terminal could take for commands, or that hide or turn around what
#: stands beside them: controls, formats (bidirectional marks, zero-width ones, tags), separators of lines, surrogates.
_UNSAFE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file; else $RLM_CONFIG, else ./rlm.toml, else the built-in defaults.",
)
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


def say(text: str) -> None:
    """Tell a person something on stderr."""
    click.echo(safe(text), err=True)


def confirm(question: str) -> None:
    """Ask a person on stderr whether to do what cannot be undone; anything but yes ends the command."""
    try:
        agreed = click.confirm(safe(question), err=True)
    except click.Abort:  # there is nobody to ask, or Ctrl-C
        say("")
        agreed = False
    if not agreed:
        raise CommandError("Nothing was removed. With --yes it is done without asking.")


def show(text: str = "") -> None:
    """Print a line of the answer."""
    click.echo(safe(text))


def print_json(document: Any) -> None:
    """Print one JSON document on stdout. What `safe` changes in it stands in texts, where JSON means the same by it."""
    click.echo(safe(msgspec.json.format(msgspec.json.encode(document), indent=2).decode()))


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
    widths = [max(len(row[index]) for row in [headings, *rows]) for index in range(len(headings))]
    numeric = align or (lambda index: index > 0)
    for row in [headings, *rows]:
        cells = [
            cell.rjust(width) if numeric(i) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        show("  ".join(cells).rstrip())
