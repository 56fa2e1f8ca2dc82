"""The layers a configuration is made of, the environment over the file over the defaults, and who gave which value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The place of a setting: names of tables and keys, numbers of list entries.
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """Tables of three origins. `variables` names the environment variable behind each place of `environment`."""

    environment: dict[str, Any] = field(repr=False)
    variables: dict[Place, str]
    file: dict[str, Any] = field(repr=False)
    source: Path | None
    built_in: dict[str, Any] = field(repr=False)

    @property
    def tables(self) -> tuple[dict[str, Any], ...]:
        """The layers, the one that wins first."""
        return self.environment, self.file, self.built_in

    @property
    def types(self) -> dict[str, Any]:
        """The table of types as configured, the environment aside, which can add none."""
        types = (self.built_in | self.file).get("types")
        return types if isinstance(types, dict) else {}

    def find(self, place: Place) -> Any:
        """Return the value at `place` of the highest layer that has one, else None (which TOML cannot say)."""
        values = (_dig(table, place) for table in self.tables)
        return next((value for value in values if value is not None), None)

    def where(self, place: Place) -> str:
        """Tell where the value at `place` comes from."""
        if place in self.variables:
            return f"environment {self.variables[place]}"
        return self.file_name if _dig(self.file, place) is not None else "default"

    def blame(self, place: Place) -> str:
        """Tell where a fault at `place` is to be mended: also what is missing is missing in the file."""
        where = self.where(place)
        return self.file_name if where == "default" and self.source else where

    @property
    def file_name(self) -> str:
        """The file, as messages name it."""
        return f"file {self.source}"


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Go through nested tables and lists, yielding each single value (or empty list or table) with its place."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*place, key))
    elif isinstance(value, list | tuple) and value:
        for number, item in enumerate(value):
            yield from leaves(item, (*place, number))
    else:
        yield place, value


def _dig(value: Any, place: Place) -> Any:
    for part in place:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
