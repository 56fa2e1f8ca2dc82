"""The layers of the configuration as tables, options over environment over file over defaults, and what is wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm.core.text import cut, did_you_mean, safe_line
from rlm.settings.model import NAMED, SECTIONS, Document, EndpointSettings, SuccessSettings
from rlm.settings.secrets import MASK, mask_url, mask_value
from rlm.settings.section import UNKNOWN_KEY, Problem, Section, Setting, defaults_of, settings_of
from rlm.settings.toml import Place, dotted, toml_value

#: The command option that overrides all other layers; also the origin of its values.
OPTION = "--set"

_LONGEST_VALUE = 200
#: How many faults are listed.
_MOST_FAULTS = 100

_BASE_URL = "http://127.0.0.1:8090"
_OVERFLOW_ENDPOINTS = 3
#: Type, priority, seconds per call, primary endpoint.
_TYPES = (
    ("REBALANCE_NEEDED", 5, 2.0, "rebalance_api"),
    ("OPEN_POSITION_DETECTED", 4, 1.5, "open_position_api"),
    ("OPEN_ORDER_DETECTED", 3, 1.0, "open_order_api"),
    ("NEW_BALANCE_UPDATE", 2, 0.8, "balance_update_api"),
    ("BALANCE_CHECK_REQUIRED", 1, 1.2, "balance_check_api"),
)


def built_in_types() -> dict[str, Any]:
    """Return the tables of the built-in types."""
    tables = {}
    for name, priority, seconds, primary in _TYPES:
        endpoints = [primary, *(f"overflow_{primary}_{number}" for number in range(1, _OVERFLOW_ENDPOINTS + 1))]
        tables[name] = {
            "priority": priority,
            "processing_seconds": seconds,
            "rate_limit": "30/minute",
            "endpoints": [{"name": endpoint, "url": f"{_BASE_URL}/{endpoint}"} for endpoint in endpoints],
        }
    return tables


def settings_at(place: Place) -> dict[str, Setting]:
    """Return the settings of the table at `place`, empty if there is no such table."""
    section: type[Section] | None
    match place:
        case ():
            section = Document
        case (str(name),):
            section = SECTIONS.get(name)
        case (str(name), str()):
            section = NAMED.get(name)
        case ("types", str(), "endpoints", int()):
            section = EndpointSettings
        case ("types", str(), "success") | ("types", str(), "endpoints", int(), "success"):
            section = SuccessSettings
        case _:
            section = None
    return dict(settings_of(section)) if section else {}


@dataclass(frozen=True, slots=True)
class Layers:
    """The tables of the configuration with all layers merged.

    `origins` maps each value that an option or a variable set to its origin, as messages name it; `wrong` has the
    places of what is wrong by itself, `faults` the messages about all that is wrong.
    """

    tables: dict[str, Any] = field(repr=False)
    file: dict[str, Any] = field(repr=False)
    source: Path | None = None
    origins: dict[Place, str] = field(default_factory=dict)
    wrong: set[Place] = field(default_factory=set)
    faults: list[str] = field(default_factory=list, repr=False)

    def put(self, place: Place, value: Any, origin: str) -> None:
        """Set a value. If the file has something else where a table should be, keep it so that the fault shows."""
        table = _dig(self.tables, place[:-1])
        if isinstance(table, dict):
            table[place[-1]] = value
            self.origins[place] = origin

    def settable(self) -> Iterator[Place]:
        """Yield the places of all sections, types and budgets."""
        yield from ((section,) for section in SECTIONS)
        yield from ((kind, name) for kind in NAMED for name in self.named(kind))

    def named(self, kind: str) -> dict[str, Any]:
        """Return the configured `types` or `budgets` by name."""
        tables = self.tables.get(kind)
        return tables if isinstance(tables, dict) else {}

    def endpoints(self) -> Iterator[Place]:
        """Yield the places of all endpoints."""
        for name in self.named("types"):
            entries = self.find(("types", name, "endpoints"))
            for number in range(len(entries) if isinstance(entries, list) else 0):
                yield "types", name, "endpoints", number

    def find(self, place: Place) -> Any:
        """Return the value at `place`; None, which TOML cannot express, if there is none."""
        return _dig(self.tables, place)

    def valid(self, place: Place) -> Any:
        """Return the value at `place`, None if there is none or it is wrong by itself."""
        return None if any(one in self.wrong for one in _upwards(place)) else self.find(place)

    def where(self, place: Place) -> str:
        """Return the origin of the value at `place`; an entry has the origin of its list."""
        origin = next((self.origins[one] for one in _upwards(place) if one in self.origins), None)
        return origin or (f"file {self.source}" if _dig(self.file, place) is not None else "default")

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Note what is wrong at some places: where each value comes from, its key, the value, and what is allowed."""
        for place, problem in problems:
            self.wrong.add(place)
            origin, value = self.where(place), self.find(place)
            if origin == "default" and self.source:  # what is missing is missing in the file
                origin = f"file {self.source}"
            subject = cut(safe_line(dotted(place)), _LONGEST_VALUE)
            setting = settings_at(place[:-1]).get(str(place[-1]))
            words = problem + _unknown(place) if problem == UNKNOWN_KEY else problem
            is_single = setting is not None and (setting.section is None or isinstance(value, list | dict))
            if is_single and value is not None and len(place) > 1:
                subject += f" = {shown(place, value)}"
            self.faults.append(f"{origin}: {subject}: {words}")

    def listed(self) -> str:
        """Return the faults, one line each, and how many there are beyond the most that are listed."""
        more = len(self.faults) - _MOST_FAULTS
        return "\n".join([*self.faults[:_MOST_FAULTS], *([f"and {more:,} more"] if more > 0 else [])])


def layered(file: dict[str, Any], source: Path | None = None) -> Layers:
    """Return the tables of a file over the defaults. The built-in types count only if the file has no types."""
    tables: dict[str, Any] = {name: defaults_of(section) for name, section in SECTIONS.items()}
    if "types" not in file:
        tables["types"] = built_in_types()
    for name, table in copy.deepcopy(file).items():
        both = name in SECTIONS and isinstance(table, dict)
        tables[name] = tables[name] | table if both else table
    return Layers(tables, file, source)


def masked(place: Place, value: Any) -> Any:
    """Return what may be shown of the setting at `place`."""
    if "headers" in place[2:] or place == ("web", "token"):
        return mask_value(value) if isinstance(value, str) else value and MASK
    return mask_url(value) if place[-1] == "url" and isinstance(value, str) else value


def shown(place: Place, value: Any) -> str:
    """Return a value as the file would have it: secrets masked, long texts cut, tables folded."""
    if isinstance(value, dict) and value:
        return "{...}"
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return "[...]"
    return cut(safe_line(toml_value(masked(place, value))), _LONGEST_VALUE)


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


def _unknown(place: Place) -> str:
    """Return which key was probably meant, in the same table or another, and which the table may have."""
    key, known = str(place[-1]), settings_at(place[:-1])
    elsewhere = (f"{name}.{key}" for name, section in SECTIONS.items() if key in settings_of(section))
    hint = did_you_mean(key, known) or did_you_mean(key, elsewhere, cutoff=0.0)
    return f"{hint}; allowed here are {', '.join(known)}"


def _upwards(place: Place) -> Iterator[Place]:
    """Yield a place, then the places of the lists and tables that contain it, innermost first."""
    return (place[:length] for length in range(len(place), 0, -1))


def _dig(value: Any, place: Place) -> Any:
    for part in place:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
