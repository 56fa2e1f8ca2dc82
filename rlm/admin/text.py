"""Texts as people type and read them: durations, lines of limited length, the first letter of a sentence."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from rlm.admin.errors import BadQuestionError
from rlm.core.text import cut, safe, safe_line

#: The most characters of a text that shares a line with others (an event id has at most 301), and of a line for people.
LONGEST_TEXT, LONGEST_LINE = 320, 2000
#: Durations as people type them.
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)", re.ASCII)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_UNITS = {"": 1, "s": 1, "m": _MINUTE, "h": _HOUR, "d": _DAY}
#: The longest duration that may be asked for.
LONGEST_SECONDS = 366.0 * _DAY
#: What programs may ask for: a duration, a text, any of several texts.
Duration = Annotated[str, Meta(max_length=30, description="A duration: 90, 90s, 10m, 24h; above 0.")]
Text = Annotated[str, Meta(max_length=200)]
Texts = Annotated[list[Text], Meta(max_length=100)]


def safe_words(text: object) -> str:
    """Return words for people, which may quote foreign text, safe to print and with lines of limited length."""
    return "\n".join(cut(line, LONGEST_LINE) for line in safe(text).split("\n"))


def one_line(text: object, width: int) -> str:
    """Return foreign text as one line of at most `width` characters, for a table."""
    return cut(safe_line(" ".join(str(text).split())), width)


def capital(words: str) -> str:
    """Return words with a capital first letter."""
    return f"{words[:1].upper()}{words[1:]}"


def span(seconds: float | None) -> str:
    """Return a duration in words, a dash for None: `8.3 s`, `47 s`, `2:07 min`, `3:05 h`, `4.2 d`.

    All durations are written this way, except a plan's figures, configured values and log lines: plain seconds.
    """
    if seconds is None:
        return "-"
    if round(seconds) < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004  # tenths below this
    if round(seconds) < _HOUR:
        return "{}:{:02d} min".format(*divmod(round(seconds), _MINUTE))
    if seconds < 2 * _DAY:
        return "{}:{:02d} h".format(*divmod(round(seconds / _MINUTE), _MINUTE))
    return f"{seconds / _DAY:.1f} d"


def done_after(seconds: float) -> str:
    """Return words for a plan's forecast, which is 0 if no call can be made in time."""
    return f"done {span(seconds)} after the first call" if seconds else "no call"


def seconds_in(duration: str) -> float:
    """Return a typed duration in seconds; raise a BadQuestionError if it is none, 0, or more than a year.

    A number without a unit counts seconds.
    """
    typed = _DURATION.fullmatch(duration)
    if not typed or not 0 < (seconds := float(typed[1]) * _UNITS[typed[2]]) <= LONGEST_SECONDS:
        what = "is not a duration of a year at most; write for example 90, 90s, 15m, 24h or 2d"
        raise BadQuestionError(f"{duration!r} {what}")
    return seconds
