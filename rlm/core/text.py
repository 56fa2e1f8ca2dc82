"""Words for people: safe display of foreign text, numbers with nouns, durations. Pure.

Only this file decides which characters of a text are shown, how wide it is, and where it is cut.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any
from unicodedata import category, east_asian_width

from msgspec import Meta

from rlm.core.errors import BadQuestionError

#: Invisible letters, signs and marks that count as printable: Hangul fillers, variation selectors, the Braille blank.
_BLANKS = (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0x1D159, 0x13441, 0x13442, 0x16FE4)
_BLANK = frozenset(map(chr, (*_BLANKS, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
#: Marks that combine with the letter before them.
_MARKS = frozenset({"Mn", "Me"})
#: The most columns of a text that shares a line with others (an event id has at most 301), and of a line for people.
LONGEST_TEXT, LONGEST_LINE = 320, 2000
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
#: Durations as people type them, and examples of them.
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": _MINUTE, "h": _HOUR, "d": _DAY}
DURATIONS = "90, 90s, 15m, 24h or 2d"


def is_name(text: str) -> bool:
    """Return whether `text` may name a type or endpoint; names become part of event ids, Redis keys and metrics."""
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", text) is not None


def safe(text: object, keep: str = "\n\t") -> str:
    """Return foreign text safe to print: characters that a terminal may take for commands are escaped as in JSON.

    Invisible characters and piled-up marks are escaped as well.
    """
    text = str(text)
    return text if text.isascii() and text.isprintable() else "".join(_seen(text, keep))


def safe_line(text: object) -> str:
    """Return foreign text safe to print within a line: line breaks are escaped as well."""
    return safe(text, keep="")


def safe_words(text: object) -> str:
    """Return words for people, which may quote foreign text, safe to print and with lines of limited length."""
    return "\n".join(cut(line, LONGEST_LINE) for line in safe(text).split("\n"))


def harmless(document: Any) -> Any:
    """Return a JSON document for display: `safe_line` is applied to every text, and each is cut."""
    if isinstance(document, dict):
        return {cut(safe_line(name), LONGEST_TEXT): harmless(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [harmless(value) for value in document]
    return cut(safe_line(document), LONGEST_LINE) if isinstance(document, str) else document


def _seen(text: str, keep: str) -> Iterator[str]:
    """Yield the characters of a text; unsafe and invisible ones are escaped, and marks after the fourth on a letter."""
    marks = 4  # a mark at the beginning would combine with what precedes the text
    for character in text:
        is_shown = character.isprintable() and character not in _BLANK
        marks = marks + 1 if category(character) in _MARKS else 0 if is_shown and character != " " else 4
        is_shown = is_shown and marks <= 4  # noqa: PLR2004
        yield character if is_shown or character in keep else json.dumps(character)[1:-1]


def columns(text: str) -> int:
    """Return the width of a safe text in terminal columns."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if category(character) in _MARKS or "\u1160" <= character <= "\u11ff":  # Hangul, drawn into the letter before
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return a safe text, cut to at most `width` columns."""
    if columns(text) <= width:
        return text
    length, taken = 0, len("...")
    while (taken := taken + _columns(text[length])) <= width:
        length += 1
    return f"{text[:length]}..."


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return a suffix with the known name closest to `name`, ignoring case; empty if none is close."""
    if len(name) > LONGEST_TEXT:
        return ""
    import difflib  # noqa: PLC0415  # needed only after a typing error

    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=cutoff)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 event`, `1,785 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def capital(words: str) -> str:
    """Return words with a capital first letter."""
    return f"{words[:1].upper()}{words[1:]}"


def sentence(words: str) -> str:
    """Return words as a sentence, with a capital letter and a full stop."""
    return f"{capital(words)}."


def named(names: Sequence[str], most: int) -> str:
    """Return the first `most` names and the number of others: `a, b and 1,785 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def span(seconds: float | None) -> str:
    """Return a duration in words, a dash for None: `8.3 s`, `47 s`, `2:07 min`, `3:05 h`, `4.2 d`.

    All durations are written this way, except a plan's figures and configured values, which are plain seconds.
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


def seconds_of(text: str) -> float:
    """Return a typed duration in seconds, NaN for any other text. A number without a unit counts seconds."""
    typed = _DURATION.fullmatch(text)
    return float(typed[1]) * _UNITS[typed[2]] if typed else math.nan


#: What programs may ask for: a duration, a text, any of several texts.
Duration = Annotated[str, Meta(max_length=30, description="A duration: 90, 90s, 10m, 24h; above 0.")]
Text = Annotated[str, Meta(max_length=200)]
Texts = Annotated[list[Text], Meta(max_length=100)]


#: The longest duration that may be asked for.
LONGEST_SECONDS = 366.0 * _DAY


def seconds_in(duration: str) -> float:
    """Return a typed duration in seconds; raise a BadQuestionError if it is none, 0, or more than a year."""
    if not 0 < (seconds := seconds_of(duration)) <= LONGEST_SECONDS:
        raise BadQuestionError(f"{duration!r} is not a duration of a year at most; write for example {DURATIONS}")
    return seconds


def one_line(text: object, width: int) -> str:
    """Return foreign text as one line of at most `width` columns, for a table."""
    return cut(safe_line(" ".join(str(text).split())), width)
