"""TOML: writing values and tables, and finding the line of each key, which the parser does not report."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm.settings.kinds import Place

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
#: A string of one of the four kinds, a comment, a separator of keys and values, or a piece of a key or value.
_SIGN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'{3}.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[][{}=,.\n]|[^][{}=,.#"\'\s]+',
    re.DOTALL,
)


def toml_key(name: str) -> str:
    """Return one part of a key, quoted if necessary."""
    return name if _BARE_KEY.fullmatch(name) else toml_value(name)


def toml_value(value: Any) -> str:
    """Return a string, number, boolean, date, list or table as TOML on one line."""
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
    """Return a TOML document of these tables; their names become the headers."""
    lines: list[str] = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


class KeyLines:
    """The first line (from 1) of each table and key of a text, by place, and the first key that is written twice.

    The latter is `repeated`, with its place and both lines. Invalid TOML is read as far as it makes sense.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[Place, int] = {}
        self.repeated: tuple[Place, int, int] | None = None
        self._entries: dict[Place, int] = {}  #: the index of the last entry of each list of tables
        self._signs: deque[tuple[str, int]] = deque()
        line = 1
        for found in _SIGN.finditer(text):
            if not found[0].startswith("#"):
                self._signs.append((found[0], line))
            line += found[0].count("\n")
        with suppress(RecursionError, IndexError, ValueError):  # the end, invalid TOML, or too deep nesting
            self._tables()

    def _tables(self) -> None:
        table: Place = ()
        while True:
            if self._next() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Place:
        """Read `[table]`, or `[[entry]]` of a list of tables."""
        _, line = self._signs.popleft()
        is_entry = self._next() == "["
        *parents, name = self._key("]")
        place: Place = ()
        for part in parents:  # a list of tables in a header means its last entry
            place = (*place, part)
            place = (*place, self._entries[place]) if place in self._entries else place
        place = (*place, name)
        if is_entry:
            self._signs.popleft()
            self._entries[place] = self._entries.get(place, -1) + 1
            place = (*place, self._entries[place])
        self._note(place, line)
        return place

    def _pair(self, table: Place) -> None:
        """Read `key = value`."""
        _, line = self._signs[0]
        place = (*table, *self._key("="))
        if place in self.lines and not self.repeated:
            self.repeated = place, self.lines[place], line
        self._note(place, line)
        self._value(place)

    def _key(self, end: str) -> Place:
        parts: list[str] = []
        while (sign := self._signs.popleft()[0]) != end:
            if sign not in (".", "["):
                parts.append(str(tomllib.loads(f"key = {sign}")["key"]) if sign[0] in "\"'" else sign)
        return tuple(parts)

    def _value(self, place: Place) -> None:
        opening = self._signs[0][0]
        if opening not in ("[", "{"):
            while self._signs[0][0] not in (",", "]", "}", "\n"):
                self._signs.popleft()
            return
        self._signs.popleft()
        number = 0
        while (sign := self._next()) not in ("]", "}"):
            if sign == ",":
                number += 1
                self._signs.popleft()
            elif opening == "{":
                self._pair(place)
            else:
                self._note((*place, number), self._signs[0][1])
                self._value((*place, number))
        self._signs.popleft()

    def _next(self) -> str:
        """Return the next sign that is not a line break, without consuming it."""
        while self._signs[0][0] == "\n":
            self._signs.popleft()
        return self._signs[0][0]

    def _note(self, place: Place, line: int) -> None:
        for length in range(1, len(place) + 1):
            self.lines.setdefault(place[:length], line)
