"""Shared by all commands: their frame and options, the store, and how they print.

A command prints its answer both ways: with `--json` only `print_json` writes to stdout, otherwise only the others do.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm.admin.text import LONGEST_LINE, one_line, safe_words, seconds_in, span
from rlm.core.text import LOG_FORMATS, safe

if TYPE_CHECKING:
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings


def _remember(ctx: click.Context, flag: click.Parameter, value: bool) -> None:
    ctx.meta[f"rlm.{flag.name}"] = value or ctx.meta.get(f"rlm.{flag.name}", False)


def flag(name: str, meaning: str, **more: Any) -> click.Option:
    """Return an option without a value."""
    return click.Option([*name.split()], is_flag=True, help=meaning, **more)


def duration(name: str, meaning: str, default: str | None = None) -> click.Option:
    """Return an option for a duration: `90`, `90s`, `10m`, `2d`; seconds without a unit."""
    return click.Option(name.split(), type=seconds_in, metavar="DURATION", default=default, help=meaning)


def several(names: str, metavar: str, meaning: str, of: Iterable[str] = ()) -> click.Option:
    """Return an option that can be repeated, each time with one of the values `of`, if there are any."""
    kind = click.Choice([*map(str, of)]) if of else None
    return click.Option(names.split(), metavar=metavar, multiple=True, type=kind, help=meaning)


config_option = click.Option(
    ["--config"],
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file; else $RLM_CONFIG, else ./rlm.toml, else the built-in defaults.",
)
#: It may stand before the command, too.
debug_option = flag("--debug", "Show the traceback of an error.", expose_value=False, callback=_remember)
json_option = flag("--json", "Print one JSON document and nothing else.", expose_value=False, callback=_remember)


def command(
    *examples: str,
    name: str | None = None,
    group: click.Group | None = None,
    params: Iterable[click.Parameter] = (),
    prints_data: bool = True,
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator for a command with examples, `--config`, `--debug` and, if it prints data, `--json`.

    `name` is by default the function's name. A command without a `group` is added to one elsewhere.
    """
    standard = [config_option, debug_option, *([json_option] if prints_data else [])]
    make = group.command if group else click.command
    return make(name, params=[*params, *standard], epilog=in_lines(*examples))


def store_command(*examples: str, **frame: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator for a `command` that is called with the store of its configuration, which must answer."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def body(config: Path | None, **given: Any) -> None:
            with opened(settings_of(config)) as store:
                function(store, **given)

        return command(*examples, **frame)(body)

    return decorate


def in_lines(*examples: str) -> str:
    """Return the `epilog` of a command: its examples, each on a line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in examples)])


yes_option = flag("--yes", "Do not ask.")
all_option = flag("--all every", "All of them.")
volatile_option = flag(
    "--allow-volatile",
    "Accept a Redis that keeps nothing on disk, and loses all if it restarts.",
    envvar="RLM_ALLOW_VOLATILE",  # for what `rlm up` starts
)
number_argument = click.Argument(["number"], metavar="[N]", type=click.IntRange(1, 1_000_000_000), default=20)


#: It is set for this process and those that it starts.
log_format_option = click.Option(
    ["--log-format"],
    type=click.Choice(LOG_FORMATS, case_sensitive=False),
    expose_value=False,
    callback=lambda _context, _param, value: os.environ.update({"RLM_LOG_FORMAT": value} if value else {}),
    help="How log lines are written to stderr; auto: text on a terminal, JSON elsewhere.",
)


def settings_of(config: Path | None) -> Settings:
    """Load the settings, whose modules a mere help does not need."""
    from rlm.settings import load_settings

    return load_settings(config)


@contextmanager
def opened(settings: Settings, *, keeps_server: bool = False) -> Iterator[Store]:
    """Open the store of `settings` and check that it answers; `keeps_server` keeps an embedded server running."""
    from rlm.ledger.store import Store

    with Store(settings, keeps_server=keeps_server) as store:
        store.require_schema()
        yield store


def stop_signals(*, shows_life: bool = False) -> StopSignals:
    """Return a context manager that counts the stop signals of this process; `shows_life` is its own."""
    from rlm.processes.signals import StopSignals

    return StopSignals(shows_life=shows_life)


def wants_json() -> bool:
    """Return whether the command was given `--json`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("rlm.json"))


def print_json(document: Any) -> None:
    """Print one JSON document on stdout, if `--json` was given; `safe` turns characters into equivalent escapes."""
    if wants_json():
        click.echo(safe(msgspec.json.format(msgspec.json.encode(document), indent=2).decode()))


def say(text: str) -> None:
    """Print a message on stderr."""
    click.echo(safe_words(text), err=True)


def say_error(text: str) -> None:
    """Print an error message on stderr."""
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {safe_words(text)}", err=True)


def show(text: str = "") -> None:
    """Print a part of the answer on stdout."""
    if not wants_json():
        click.echo(safe_words(text))


def table(headings: str, rows: Iterable[Sequence[object]]) -> None:
    """Print a table. `headings` are separated by `|`; one that begins with # is over numbers.

    None is a dash, a float a duration, a moment shown to the second; of a tuple the second part is the cell's style.
    On a terminal that is too narrow cells are wrapped; not elsewhere, because programs read them.
    """
    if wants_json():
        return
    from rich.console import Console
    from rich.text import Text

    from rlm.terminal.drawing import columns

    def cell(value: Any) -> Text:
        value, style = value if isinstance(value, tuple) else (value, "")
        shown = span(value) if value is None or isinstance(value, float) else str(value)
        shown = re.sub(r"\d{4}-(\d\d-\d\d)T(\d\d:\d\d:\d\d)\.\d+Z", r"\1 \2", shown)
        return Text(one_line(shown, LONGEST_LINE), style, overflow="fold")

    grid = columns(*headings.split("|"))
    for row in rows:
        grid.add_row(*map(cell, row))
    console = Console(width=None if sys.stdout.isatty() else 1_000_000, highlight=False)
    with console.capture() as captured:
        console.print(grid)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=True)


def confirm(question: str) -> None:
    """Ask before something that cannot be undone; end the command without a yes."""
    click.confirm(safe_words(question), abort=True, err=True)
