"""The configuration as tables: which there are, their defaults, and the layers that are put over these."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from rlm.settings.model import (
    ArchiveSettings,
    BudgetSettings,
    EndpointSettings,
    Name,
    QueueSettings,
    RedisSettings,
    RetrySettings,
    RunSettings,
    Section,
    TypeSettings,
    WebSettings,
    WorkersSettings,
    setting,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

#: The place of a setting: names of tables and keys, indexes of list entries.
Place = tuple[str | int, ...]

#: The option of a command that overrides all other layers, and the origin of its values.
OPTION = "--set"

_BASE_URL = "http://127.0.0.1:8090"
_RATE_LIMIT = "30/minute"
_OVERFLOW_ENDPOINTS = 3

#: Type, priority, seconds a call, primary endpoint.
_TYPES = (
    ("REBALANCE_NEEDED", 5, 2.0, "rebalance_api"),
    ("OPEN_POSITION_DETECTED", 4, 1.5, "open_position_api"),
    ("OPEN_ORDER_DETECTED", 3, 1.0, "open_order_api"),
    ("NEW_BALANCE_UPDATE", 2, 0.8, "balance_update_api"),
    ("BALANCE_CHECK_REQUIRED", 1, 1.2, "balance_check_api"),
)


class Document(Section):
    """The whole configuration as it is written, all layers merged."""

    redis: RedisSettings
    queue: QueueSettings
    run: RunSettings
    workers: WorkersSettings
    retry: RetrySettings
    archive: ArchiveSettings
    web: WebSettings
    types: dict[Name, TypeSettings] = setting(
        ..., "Types", allowed="one or more tables, [types.NAME]; leave `types` out for the built-in ones", min_length=1
    )
    budgets: dict[Name, BudgetSettings] = setting({}, "Budgets", allowed="a table for each of them, [budgets.NAME]")


#: The sections with one table each.
SECTIONS: dict[str, type[Section]] = {
    name: described.annotation
    for name, described in Document.model_fields.items()
    if isinstance(described.annotation, type) and issubclass(described.annotation, Section)
}


def model_at(path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return the model of the table at `path`, None if there is no such table."""
    match path:
        case ():
            return Document
        case (str(section),):
            return SECTIONS.get(section)
        case ("types", str()):
            return TypeSettings
        case ("budgets", str()):
            return BudgetSettings
        case ("types", str(), "endpoints", int()):
            return EndpointSettings
        case _:
            return None


def built_in(file: dict[str, Any]) -> dict[str, Any]:
    """Return the layer below `file`: the default of every setting, and the built-in types if `file` names none."""
    sections: dict[str, Any] = {name: section().model_dump() for name, section in SECTIONS.items()}
    return sections if "types" in file else {**sections, "types": built_in_types()}


def built_in_types() -> dict[str, Any]:
    """Return the tables of the types that hold if the file has none."""
    tables = {}
    for name, priority, seconds, primary in _TYPES:
        endpoints = [primary, *(f"overflow_{primary}_{number}" for number in range(1, _OVERFLOW_ENDPOINTS + 1))]
        tables[name] = {
            "priority": priority,
            "processing_seconds": seconds,
            "rate_limit": _RATE_LIMIT,
            "endpoints": [{"name": endpoint, "url": f"{_BASE_URL}/{endpoint}"} for endpoint in endpoints],
        }
    return tables


@dataclass(frozen=True, slots=True)
class Layers:
    """The configuration's tables by origin: options over the environment over the file over the defaults.

    `origins` has the origin of each place of `options` and `environment`, in the words of messages.
    """

    file: dict[str, Any] = field(repr=False)
    source: Path | None
    built_in: dict[str, Any] = field(repr=False)
    environment: dict[str, Any] = field(default_factory=dict, repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    origins: dict[Place, str] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[dict[str, Any], ...]:
        """The layers from the highest to the lowest."""
        return self.options, self.environment, self.file, self.built_in

    def merged(self) -> dict[str, Any]:
        """Return the tables that hold: each value from the highest layer that has it."""
        return reduce(_merged, reversed(self.tables))

    @property
    def types(self) -> dict[str, Any]:
        """The configured types. Options and environment variables add none, so they are not looked at."""
        return self._named("types")

    @property
    def budgets(self) -> dict[str, Any]:
        """The configured budgets, likewise."""
        return self._named("budgets")

    def _named(self, what: str) -> dict[str, Any]:
        tables = (self.built_in | self.file).get(what)
        return tables if isinstance(tables, dict) else {}

    def find(self, place: Place) -> Any:
        """Return the value at `place` of the highest layer that has one, else None (which TOML cannot write)."""
        values = (_dig(table, place) for table in self.tables)
        return next((value for value in values if value is not None), None)

    def where(self, place: Place) -> str:
        """Return the origin of the value at `place`; a list's entries were given with the list."""
        known = (self.origins.get(place[:end]) for end in range(len(place), 0, -1))
        in_file = self.file_name if _dig(self.file, place) is not None else "default"
        return next(filter(None, known), in_file)

    def blame(self, place: Place) -> str:
        """Return where to correct a fault at `place`: a missing value is missing in the file, if there is one."""
        where = self.where(place)
        return self.file_name if where == "default" and self.source else where

    @property
    def file_name(self) -> str:
        """The file in the words of messages."""
        return f"file {self.source}"


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge key by key, deeply; of lists the upper one replaces the lower."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield each single value (or empty list or table) of nested tables and lists, with its place."""
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
