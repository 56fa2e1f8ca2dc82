"""Words for people: safe display of foreign text, numbers with nouns, lists of names. Pure.

Only this file decides which characters of a text are shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from unicodedata import category

#: The forms of log lines; auto: text on a terminal, JSON elsewhere.
LOG_FORMATS = ("auto", "text", "json")
#: Invisible letters, signs and marks that count as printable: Hangul fillers, variation selectors, the Braille blank.
_BLANKS = (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0x1D159, 0x13441, 0x13442, 0x16FE4)
_BLANK = frozenset(map(chr, (*_BLANKS, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
#: Marks that combine with the letter before them.
_MARKS = frozenset({"Mn", "Me"})


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


def _seen(text: str, keep: str) -> Iterator[str]:
    """Yield the characters of a text; unsafe and invisible ones are escaped, and marks after the fourth on a letter."""
    marks = 4  # a mark at the beginning would combine with what precedes the text
    for character in text:
        is_shown = character.isprintable() and character not in _BLANK
        marks = marks + 1 if category(character) in _MARKS else 0 if is_shown and character != " " else 4
        is_shown = is_shown and marks <= 4  # noqa: PLR2004
        yield character if is_shown or character in keep else json.dumps(character)[1:-1]


def cut(text: str, length: int) -> str:
    """Return a text, cut to at most `length` characters."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 event`, `1,785 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def named(names: Sequence[str], most: int) -> str:
    """Return the first `most` names and the number of others: `a, b and 1,785 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
