"""The layers of a configuration, options over the environment over the file over the defaults, and who gave what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The place of a setting: names of tables and keys, numbers of list entries.
Place = tuple[str | int, ...]

#: How a command is told a value that goes over all others: the origin of such a value.
OPTION = "--set"


@dataclass(frozen=True, slots=True)
class Layers:
    """Tables of four origins. `variables` names the environment variable behind each place of `environment`.

    `options` has what a command was told to take for granted, at the `told` places.
    """

    environment: dict[str, Any] = field(repr=False)
    variables: dict[Place, str]
    file: dict[str, Any] = field(repr=False)
    source: Path | None
    built_in: dict[str, Any] = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    told: frozenset[Place] = frozenset()

    @property
    def tables(self) -> tuple[dict[str, Any], ...]:
        """The layers, the one that wins first."""
        return self.options, self.environment, self.file, self.built_in

    @property
    def types(self) -> dict[str, Any]:
        """The table of types as configured; options and environment aside, which can add none."""
        return self._named("types")

    @property
    def budgets(self) -> dict[str, Any]:
        """The table of budgets, likewise."""
        return self._named("budgets")

    def _named(self, what: str) -> dict[str, Any]:
        tables = (self.built_in | self.file).get(what)
        return tables if isinstance(tables, dict) else {}

    def find(self, place: Place) -> Any:
        """Return the value at `place` of the highest layer that has one, else None (which TOML cannot say)."""
        values = (_dig(table, place) for table in self.tables)
        return next((value for value in values if value is not None), None)

    def where(self, place: Place) -> str:
        """Tell where the value at `place` comes from."""
        for end in range(len(place), 0, -1):  # what is in a list was given with the list
            if place[:end] in self.told:
                return OPTION
            if place[:end] in self.variables:
                return f"environment {self.variables[place[:end]]}"
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
