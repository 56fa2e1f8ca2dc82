"""On which line of a TOML file each key stands, which its parser does not tell."""

from __future__ import annotations

import re
import sys
import tomllib
from bisect import bisect_right
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from rlm.core.errors import RLMError
from rlm.core.trust import read_trusted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rlm.settings.faults import Fault
    from rlm.settings.layers import Place

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_KEY = re.compile(r'[ \t]*("(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+)[ \t]*')
#: A value that holds no other: a string of one of the four kinds, a number, a date, a truth value.
_PLAIN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'{3}.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|[^,\]}\n#]+',
    re.DOTALL,
)

_NO_LINE = sys.maxsize


def located(faults: Sequence[Fault], file: Path | None) -> list[Fault]:
    """Return the faults, those of `file` first, by line, with its name and the line of their key as their origin.

    What is missing has the line of the table that it is missing in.
    """
    named = f"file {file}"
    if file is None or not any(one.origin == named for one in faults):
        return list(faults)
    try:
        lines = lines_of(read_trusted(file).decode("utf-8-sig"))
    except (RLMError, OSError, ValueError):  # it was changed or removed since it was read
        lines = {}
    found = []
    for one in faults:
        line = _line(one.place, lines) if one.origin == named else None
        origin = str(file) if line is None else f"{file}:{line}"
        found.append((line or _NO_LINE, replace(one, origin=origin) if one.origin == named else one))
    found.sort(key=lambda each: (not each[1].subject, each[0]))  # without a subject it is only counted
    return [one for _, one in found]


def _line(place: Place, lines: Mapping[Place, int]) -> int | None:
    known = (place[:length] for length in range(len(place), 0, -1))
    return next((lines[one] for one in known if one in lines), None)


def lines_of(text: str) -> dict[Place, int]:
    """Return by place the line, from 1, of each table and key of `text`, which is valid TOML; the first of several."""
    scanner = _Scanner(text)
    with suppress(RecursionError, IndexError, ValueError):  # it is not, after all, or nested too deep
        scanner.scan()
    return scanner.lines


class _Scanner:
    """Goes through the text from key to key."""

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
        """Return the place of a table's key: what is a list of tables in it means its last entry."""
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
            parts.append(_read(self._take(_KEY)[1]))
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _skip_blank(self) -> int:
        self._take(_BLANK)
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Move behind what stands here, which must match."""
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


def _read(part: str) -> str:
    """Read a part of a key, which may be quoted."""
    return str(tomllib.loads(f"key = {part}")["key"]) if part[0] in "\"'" else part
