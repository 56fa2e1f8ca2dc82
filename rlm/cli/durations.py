"""Durations on the command line: `90`, `90s`, `10m`, `1h30m`, `24h`, `2d`, with fractions where one likes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import click

from rlm.core.text import span

if TYPE_CHECKING:
    from click import Context, Parameter

#: How a duration is written, for a message.
EXAMPLES = "90, 90s, 15m, 1h30m, 24h or 2d"
#: The longest duration where nothing shorter is said: more than anybody can type, seconds.
LONGEST_SECONDS = 1e14

_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_DURATION = re.compile(rf"(?:{_NUMBER}[smhd])+|{_NUMBER}", re.ASCII)
_PART = re.compile(rf"({_NUMBER})([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in some versions of click only
    """A length of time in seconds, above 0, not shorter than `shortest` and not longer than `longest` seconds."""

    name = "duration"

    def __init__(self, shortest: float = 0.0, longest: float = LONGEST_SECONDS) -> None:
        self._shortest = shortest
        self._longest = longest

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        """Read a duration. A number without a unit is of seconds."""
        seconds = seconds_of(value) if isinstance(value, str) else float(value)
        if not seconds > 0:  # NaN is not, either
            self.fail(f"{value!r} is no length of time; write for example {EXAMPLES}", param, ctx)
        if not self._shortest <= seconds <= self._longest:
            shortest = f"at least {span(self._shortest)} and " if self._shortest else ""
            self.fail(f"{value!r} is not in the range; it must be {shortest}at most {span(self._longest)}", param, ctx)
        return seconds


def seconds_of(text: str) -> float:
    """Return how many seconds a duration lasts, NaN for a text that is none."""
    if not _DURATION.fullmatch(text):
        return math.nan
    return math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
