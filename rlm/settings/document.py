"""The configuration as tables: which tables there are, their defaults, and the layers that override them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm.settings import model
from rlm.settings.kinds import REQUIRED, Named, Place, Section, Setting
from rlm.settings.values import setting

#: The command option that overrides all other layers; also the origin of its values.
OPTION = "--set"

_BASE_URL = "http://127.0.0.1:8090"
_RATE_LIMIT = "30/minute"
_OVERFLOW_ENDPOINTS = 3

#: Type, priority, seconds per call, primary endpoint.
_TYPES = (
    ("REBALANCE_NEEDED", 5, 2.0, "rebalance_api"),
    ("OPEN_POSITION_DETECTED", 4, 1.5, "open_position_api"),
    ("OPEN_ORDER_DETECTED", 3, 1.0, "open_order_api"),
    ("NEW_BALANCE_UPDATE", 2, 0.8, "balance_update_api"),
    ("BALANCE_CHECK_REQUIRED", 1, 1.2, "balance_check_api"),
)


def _table(kind: type[Section]) -> Any:
    return setting(REQUIRED, kind.__doc__ or "", kind=kind)


class Document(Section, frozen=True):
    """The whole configuration as written, with all layers merged."""

    redis: model.RedisSettings = _table(model.RedisSettings)
    queue: model.QueueSettings = _table(model.QueueSettings)
    run: model.RunSettings = _table(model.RunSettings)
    workers: model.WorkersSettings = _table(model.WorkersSettings)
    host: model.HostSettings = _table(model.HostSettings)
    retry: model.RetrySettings = _table(model.RetrySettings)
    archive: model.ArchiveSettings = _table(model.ArchiveSettings)
    web: model.WebSettings = _table(model.WebSettings)
    types: dict[str, model.TypeSettings] = setting(
        REQUIRED,
        "Types",
        kind=Named(model.TypeSettings, model.NAME, may_be_empty=False),
        allowed="one or more tables, [types.NAME]; leave `types` out for the built-in ones",
    )
    budgets: dict[str, model.BudgetSettings] = setting(
        {}, "Budgets", kind=Named(model.BudgetSettings, model.NAME), allowed="a table for each of them, [budgets.NAME]"
    )


#: The sections that have one table each.
SECTIONS: dict[str, type[Section]] = {
    name: described.kind
    for name, described in Document.settings().items()
    if isinstance(described.kind, type) and issubclass(described.kind, Section)
}


def fields_at(place: Place) -> dict[str, Setting]:
    """Return the settings of the table at `place`, empty if there is no such table."""
    match place:
        case ():
            found: type[Section] | None = Document
        case (str(section),):
            found = SECTIONS.get(section)
        case ("types", str()):
            found = model.TypeSettings
        case ("budgets", str()):
            found = model.BudgetSettings
        case ("types", str(), "endpoints", int()):
            found = model.EndpointSettings
        case _:
            found = None
    return found.settings() if found else {}


def built_in_types() -> dict[str, Any]:
    """Return the tables of the built-in types."""
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
    """The tables of the configuration with all layers merged: options over environment over file over defaults.

    `origins` maps each value that an option or a variable set to its origin, as messages name it. `faulty` has the
    places of values that are wrong by themselves.
    """

    tables: dict[str, Any] = field(repr=False)
    file: dict[str, Any] = field(repr=False)
    source: Path | None = None
    text: str = field(default="", repr=False)
    origins: dict[Place, str] = field(default_factory=dict)
    faulty: frozenset[Place] = frozenset()

    def put(self, place: Place, value: Any, origin: str) -> None:
        """Set a value. If the file has something else where a table should be, keep it so that the fault shows."""
        table = _dig(self.tables, place[:-1])
        if isinstance(table, dict):
            table[place[-1]] = value
            self.origins[place] = origin

    def named(self, kind: str) -> dict[str, Any]:
        """Return the configured `types` or `budgets` by name."""
        tables = self.tables.get(kind)
        return tables if isinstance(tables, dict) else {}

    def settable(self) -> Iterator[tuple[str, ...]]:
        """Yield the places of all sections, types and budgets."""
        yield from ((section,) for section in SECTIONS)
        yield from ((kind, name) for kind in ("types", "budgets") for name in self.named(kind))

    def endpoints(self) -> Iterator[Place]:
        """Yield the places of all endpoints."""
        for name, table in self.named("types").items():
            endpoints = table.get("endpoints") if isinstance(table, dict) else None
            for number in range(len(endpoints) if isinstance(endpoints, list) else 0):
                yield "types", name, "endpoints", number

    def find(self, place: Place) -> Any:
        """Return the value at `place`; None, which TOML cannot express, if there is none."""
        return _dig(self.tables, place)

    def valid(self, place: Place) -> Any:
        """Return the value at `place`, None if there is none or it is wrong by itself."""
        return None if any(one in self.faulty for one in upwards(place)) else self.find(place)

    def where(self, place: Place) -> str:
        """Return the origin of the value at `place`; an entry has the origin of its list."""
        known = next((self.origins[one] for one in upwards(place) if one in self.origins), None)
        return known or (self.file_name if _dig(self.file, place) is not None else "default")

    @property
    def file_name(self) -> str:
        """The file as messages name it."""
        return f"file {self.source}"


def layered(file: dict[str, Any], source: Path | None = None, text: str = "") -> Layers:
    """Return the tables of a file over the defaults. The built-in types count only if the file has no types."""
    tables: dict[str, Any] = {name: section.defaults() for name, section in SECTIONS.items()}
    if "types" not in file:
        tables["types"] = built_in_types()
    for name, table in copy.deepcopy(file).items():
        both = name in SECTIONS and isinstance(table, dict)
        tables[name] = tables[name] | table if both else table
    return Layers(tables, file, source, text)


def upwards(place: Place) -> Iterator[Place]:
    """Yield a place, then the places of the lists and tables that contain it, innermost first."""
    return (place[:length] for length in range(len(place), 0, -1))


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
