"""Options and value types that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from rlm.cli.printing import remember
from rlm.core.clock import system_clock
from rlm.core.text import DURATIONS, seconds_of, span


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in some versions of click only
    """A duration of at most `longest` seconds, above 0: `90`, `90s`, `10m`, `2d`."""

    name = "duration"

    def __init__(self, longest: float = 1e14) -> None:
        self._longest = longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a duration. A number without a unit is in seconds."""
        seconds = seconds_of(value) if isinstance(value, str) else float(value)
        if not seconds > 0:  # also true for NaN
            self.fail(f"{value!r} is not a duration; write for example {DURATIONS}", param, ctx)
        if seconds > self._longest:
            self.fail(f"{value!r} is too long; it must be at most {span(self._longest)}", param, ctx)
        return seconds


class Since(Duration):
    """A moment given as how long ago it was; converted to seconds since 1970."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse how long ago."""
        return system_clock.now() - super().convert(value, param, ctx)


def _flag(name: str, meaning: str, **more: Any) -> click.Option:
    return click.Option([name], is_flag=True, expose_value=False, callback=remember, help=meaning, **more)


DEBUG_OPTION = _flag("--debug", "Show the traceback of an error, as RLM_DEBUG=1 does.", is_eager=True)
JSON = _flag("--json", "Print one JSON document and nothing else.")
#: The options of every command.
STANDARD = [
    click.Option(
        ["--config"],
        type=click.Path(path_type=Path, dir_okay=False),
        help="The configuration file; else $RLM_CONFIG, else ./rlm.toml, else the built-in defaults.",
    ),
    DEBUG_OPTION,
]


def all_of(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a decorator that adds these options to a command, in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def several(
    flag: str, name: str, metavar: str, meaning: str, *, of: Iterable[str] = (), **more: Any
) -> Callable[[Any], Any]:
    """Return an option that can be repeated, each time with one of the values `of`, if there are any."""
    more |= {"type": click.Choice([*map(str, of)])} if of else {}
    return click.option(flag, name, metavar=metavar, multiple=True, help=meaning, **more)


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
all_option = click.option("--all", "every", is_flag=True, help="All of them.")
volatile_option = click.option(
    "--allow-volatile", is_flag=True, help="Accept a Redis that keeps nothing on disk: if it restarts, events are lost."
)
#: How many entries to list: the maximum exceeds any list.
number_argument = click.argument("number", metavar="[N]", type=click.IntRange(1, 1_000_000_000), default=20)


def _ask_for_format(_context: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Put the choice into the environment, for this process and those that it starts."""
    if value is not None:
        os.environ["RLM_LOG_FORMAT"] = value


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"], case_sensitive=False),
    envvar="RLM_LOG_FORMAT",
    expose_value=False,
    callback=_ask_for_format,
    help="How log lines are written to stderr; auto: text on a terminal, JSON elsewhere. Also $RLM_LOG_FORMAT.",
)
#: The options of long-running processes.
process_options = all_of(volatile_option, log_format_option)
