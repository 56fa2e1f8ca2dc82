"""TOML: writing values and tables of it, and finding the line of each key, which its parser does not report."""

from __future__ import annotations

import json
import math
import re
import tomllib
from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.settings.document import Place

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_KEY = re.compile(r'[ \t]*("(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+)[ \t]*')
#: A value that holds no other: a string of one of the four kinds, a number, a date, a truth value.
_PLAIN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'{3}.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|[^,\]}\n#]+',
    re.DOTALL,
)


def toml_key(name: str) -> str:
    """Return one part of a key, quoted if necessary."""
    return name if _BARE_KEY.fullmatch(name) else toml_value(name)


def toml_value(value: Any) -> str:
    """Return a string, number, boolean, date, list or table on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case float():
            return repr(value) if math.isfinite(value) else str(value)
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            pairs = ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            return str(value)


def dotted(place: Place) -> str:
    """Return the place of a setting as a key: `run.target`, `types.X.endpoints[1].url`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{toml_key(part)}"
    return text.removeprefix(".")


def toml_document(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a document of these tables; the names are those in brackets."""
    lines: list[str] = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def lines_of(text: str) -> dict[Place, int]:
    """Return the first line, from 1, of each table and key of valid TOML, by place."""
    scanner = _Scanner(text)
    with suppress(RecursionError, IndexError, ValueError):  # not valid after all, or nested too deep
        scanner.scan()
    return scanner.lines


class _Scanner:
    """Reads the text from key to key."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Place, int] = {}
        self._text = text
        self._at = 0
        self._ends = [at for at, one in enumerate(text) if one == "\n"]
        self._entries: dict[Place, int] = {}

    def scan(self) -> None:
        """Read all tables."""
        table: Place = ()
        while self._skip_blank() < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Place:
        """Read `[table]`, or `[[entry]]` of a list of tables."""
        is_entry = self._text.startswith("[[", self._at)
        line = self._line()
        self._at += 2 if is_entry else 1
        place = self._resolved(self._key())
        self._at += 2 if is_entry else 1
        if is_entry:
            self._entries[place] = self._entries.get(place, -1) + 1
            place = (*place, self._entries[place])
        self._note(place, line)
        return place

    def _resolved(self, key: Place) -> Place:
        """Return the place of a table's key, in which a list of tables stands for its last entry."""
        place: Place = ()
        for part in key[:-1]:
            place = (*place, part)
            place = (*place, self._entries[place]) if place in self._entries else place
        return (*place, key[-1])

    def _pair(self, table: Place) -> None:
        """Read `key = value`."""
        line = self._line()
        place = (*table, *self._key())
        self._at += 1
        self._note(place, line)
        self._value(place)

    def _value(self, place: Place) -> None:
        self._skip_blank()
        if self._text[self._at] == "[":
            self._several(place, "]")
        elif self._text[self._at] == "{":
            self._several(place, "}")
        else:
            self._take(_PLAIN)

    def _several(self, place: Place, end: str) -> None:
        """Read the values of a list, or the pairs of a table in braces."""
        self._at += 1
        number = 0
        while self._skip_blank() < len(self._text) and self._text[self._at] != end:
            if end == "}":
                self._pair(place)
            else:
                self._note((*place, number), self._line())
                self._value((*place, number))
            number += 1
            if self._text[self._skip_blank()] == ",":
                self._at += 1
        self._at += 1

    def _key(self) -> Place:
        parts: list[str] = []
        while True:
            part = self._take(_KEY)[1]
            parts.append(str(tomllib.loads(f"key = {part}")["key"]) if part[0] in "\"'" else part)
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _skip_blank(self) -> int:
        self._take(_BLANK)
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Move behind the match of `pattern` at this point.

        Raises:
            ValueError: there is none.
        """
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"no {pattern.pattern} at {self._at}")
        self._at = found.end()
        return found

    def _line(self) -> int:
        return bisect_right(self._ends, self._at - 1) + 1

    def _note(self, place: Place, line: int) -> None:
        for length in range(1, len(place) + 1):
            self.lines.setdefault(place[:length], line)
