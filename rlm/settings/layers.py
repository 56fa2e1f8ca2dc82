"""The layers of the configuration, options over environment over file over defaults, and what is wrong with them.

The layers are merged as a tree of TOML. A `Document` is made from it setting by setting, so all faults are found at
once.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec

from rlm.core.errors import ConfigurationError
from rlm.core.files import read_trusted
from rlm.core.text import cut, did_you_mean, is_name, safe_line
from rlm.settings.checks import NAMES
from rlm.settings.model import Document, Section, Setting, settings_of
from rlm.settings.secrets import MASK, mask_url, mask_value
from rlm.settings.toml import Place, Tables, dotted, toml_value

#: The command option that overrides all other layers; also the origin of its values.
OPTION = "--set"
#: The longest key or value in a message.
_LONGEST = 200


def built_in_types() -> Tables:
    """Return the tables of the built-in types."""
    tables = {}
    for name, priority, seconds, primary in (
        ("REBALANCE_NEEDED", 5, 2.0, "rebalance_api"),
        ("OPEN_POSITION_DETECTED", 4, 1.5, "open_position_api"),
        ("OPEN_ORDER_DETECTED", 3, 1.0, "open_order_api"),
        ("NEW_BALANCE_UPDATE", 2, 0.8, "balance_update_api"),
        ("BALANCE_CHECK_REQUIRED", 1, 1.2, "balance_check_api"),
    ):
        endpoints = [primary, *(f"overflow_{primary}_{number}" for number in (1, 2, 3))]
        tables[name] = {
            "priority": priority,
            "processing_seconds": seconds,
            "rate_limit": "30/minute",
            "endpoints": [{"name": endpoint, "url": f"http://127.0.0.1:8090/{endpoint}"} for endpoint in endpoints],
        }
    return tables


class Layers:
    """The merged layers: `tables`, the origin of each value that is no default, and what is wrong."""

    def __init__(self, file: Tables, source: Path | None = None) -> None:
        self.tables = file if "types" in file else {**file, "types": built_in_types()}
        self.source = source
        self.faults: list[str] = []
        self._origins = {place: f"file {source}" for place, value in leaves(file) if value != {}}
        self._settings = dict(_settings_in(self.tables))

    def put_environment(self, environ: Mapping[str, str]) -> None:
        """Put in `environ`, `REDIS_URL` below the others; a variable without effect is a fault."""
        variables = {_variable(place): place for place in self._single_values() if "endpoints" not in place}
        if environ.get("REDIS_URL"):
            self._put(("redis", "url"), environ["REDIS_URL"], "environment REDIS_URL")
        for variable in sorted(environ):
            if place := variables.get(variable.upper()):
                self._put(place, environ[variable], f"environment {variable}")
            elif variable.startswith("RLM_") and "__" in variable[4:]:
                near = did_you_mean(variable, variables, cutoff=0.8)
                problem = f"no such setting{near}; RLM_<SECTION>__<KEY> sets a single value"
                self.faults.append(f"environment {safe_line(variable)}: {problem}")

    def put_options(self, texts: Iterable[str]) -> None:
        """Put in `texts` (`KEY=VALUE` each). Keys are written as in messages: `types.X.endpoints[1].rate_limit`."""
        places = {dotted(place): place for place in self._single_values()}
        for text in texts:
            key, equals, value = text.partition("=")
            if equals and key in places:
                self._put(places[key], value, OPTION)
            else:
                problem = f"no such setting{did_you_mean(key, places)}" if equals else "is not KEY=VALUE"
                self.faults.append(f"{OPTION}: {safe_line(key)}: {problem}; write for example run.target=0.5")

    def _single_values(self) -> list[Place]:
        return [place for place, setting in self._settings.items() if setting.section is None]

    def _put(self, place: Place, text: str, origin: str) -> None:
        """Set a value. If something else is where its table should be, keep that, so that the fault shows."""
        table: Any = self.tables
        for part in place[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else table[part]
            if not isinstance(table, dict | list):
                return
        table[place[-1]] = _converted(text, self._settings[place].plain)
        self._origins[place] = origin

    def where(self, place: Place) -> str:
        """Return the origin of the value at `place`; an entry has the origin of its list."""
        upwards = (place[:length] for length in range(len(place), 0, -1))
        return next((self._origins[each] for each in upwards if each in self._origins), "default")

    def read(self) -> Document:
        """Return the document that the layers make, and note what is wrong.

        What is wrong by itself is None in it: a section, a type, an endpoint, a budget.
        """
        values, _ = self._values(Document, self.tables, ())
        return Document(**{"types": {}, **values})

    def _read(self, section: type[Section], table: Any, place: Place) -> Any:
        if not isinstance(table, dict):
            self.refuse(place, f"must be a table of {', '.join(settings_of(section))}")
            return None
        values, right = self._values(section, table, place)
        return section(**values) if right else None

    def _values(self, section: type[Section], table: Tables, place: Place) -> tuple[Tables, bool]:
        """Return the values of a table that are right, and whether all are; its inner tables do not count."""
        settings, values, right = settings_of(section), {}, True
        for key in [key for key in table if key not in settings]:
            right = False
            self.refuse(
                (*place, key), f"unknown key{did_you_mean(key, settings)}; allowed here are {', '.join(settings)}"
            )
        for key, setting in settings.items():
            try:
                if key in table:
                    values[key] = self._value(setting, table[key], (*place, key))
                elif setting.default is msgspec.NODEFAULT:
                    right = False
                    self.refuse((*place, key), f"is missing; give {setting.allowed}")
            except (msgspec.ValidationError, ValueError) as error:
                right = False
                is_told = isinstance(error, msgspec.ValidationError)
                self.refuse((*place, key), f"must be {setting.allowed}" if is_told else str(error))
        return values, right

    def _value(self, setting: Setting, value: Any, place: Place) -> Any:
        section = setting.section
        if section is None:
            return setting.check(msgspec.convert(value, setting.kind))
        if section is setting.plain:
            return self._read(section, value, place)
        if place[-1] == "endpoints":
            entries = msgspec.convert(value, Annotated[list[Any], *get_args(setting.kind)[1:]])
            return tuple(self._read(section, entry, (*place, number)) for number, entry in enumerate(entries))
        tables = msgspec.convert(value, Annotated[Tables, *get_args(setting.kind)[1:]])
        for name in tables:
            if not is_name(name):
                self.refuse((*place, name), f"a name has {NAMES}")
        return {name: self._read(section, table, (*place, name)) for name, table in tables.items()}

    def refuse(self, place: Place, problem: str) -> None:
        """Note what is wrong at a place: where its value comes from, its key, the value, and what is allowed."""
        origin = self.where(place)
        if origin == "default" and self.source:  # what is missing is missing in the file
            origin = f"file {self.source}"
        subject, setting = cut(safe_line(dotted(place)), _LONGEST), self._settings.get(place)
        if setting and setting.section is None:
            value = setting.default if (value := dig(self.tables, place)) is None else value
            if value not in (None, msgspec.NODEFAULT):
                subject += f" = {cut(safe_line(toml_value(masked(place, value))), _LONGEST)}"
        self.faults.append(f"{origin}: {subject}: {problem}")


def layers_of(path: Path | None, environ: Mapping[str, str]) -> Layers:
    """Return the layer of the file at `path`, else of `$RLM_CONFIG`, else of `./rlm.toml` if it exists, else of none.

    Raises:
        UnsafeError: another user could change the file, or it is not a regular file.
        ConfigurationError: it does not exist, cannot be read, or is not TOML in UTF-8.
    """
    named_by = "--config" if path else "environment RLM_CONFIG"
    if path is None and (variable := environ.get("RLM_CONFIG")):
        path = Path(variable)
    if path is None:
        path = Path.cwd() / "rlm.toml"
        if not os.path.lexists(path):
            return Layers({})
    elif not path.exists():
        raise ConfigurationError(f"{named_by}: there is no file {str(path)!r}; name an existing file or leave it out")
    path = path.absolute()
    try:
        return Layers(tomllib.loads(read_trusted(path).decode("utf-8-sig")), path)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"file {path}: is not valid TOML in UTF-8: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"file {path}: cannot be read: {error.strerror}") from error


def masked(place: Place, value: Any) -> Any:
    """Return what may be shown of the setting at `place`."""
    mask = mask_url if place[-1] == "url" else mask_value
    if mask is mask_url or "headers" in place[2:] or place == ("web", "token"):
        return mask(value) if isinstance(value, str) else value and MASK
    return value


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield each single value (or empty list or table) of nested tables and lists, with its place."""
    entries = _entries(value)
    for key, item in entries:
        yield from leaves(item, (*place, key))
    if not entries and value is not None:
        yield place, value


def _entries(value: Any) -> Sequence[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return [*value.items()]
    return [*enumerate(value)] if isinstance(value, list | tuple) else []


def dig(tables: Any, place: Place) -> Any:
    """Return the value at `place`; None, which TOML cannot express, if there is none."""
    for part in place:
        try:
            tables = tables[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tables


def _settings_in(table: Any, section: type[Section] = Document, place: Place = ()) -> Iterator[tuple[Place, Setting]]:
    """Yield each setting that there is, set or not, in a table and in the tables in it, with its place."""
    for key, setting in settings_of(section).items():
        at, value = (*place, key), table.get(key) if isinstance(table, dict) else None
        yield at, setting
        if setting.section is setting.plain:
            yield from _settings_in(value, setting.section, at)
        elif setting.section:
            for name, entry in _entries(value):
                yield from _settings_in(entry, setting.section, (*at, name))


def _variable(place: Place) -> str:
    """Return the variable that overrides the setting at `place`; characters not allowed in a variable become `_`."""
    return "RLM_" + "__".join(re.sub(r"[^A-Z0-9_]", "_", str(part).upper()) for part in place)


def _converted(text: str, plain: Any) -> Any:
    """Return `text` converted to a setting's type if possible; `read` reports text that cannot be converted."""
    if plain == list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.convert(text, plain, strict=False)
    except msgspec.ValidationError:
        return text
