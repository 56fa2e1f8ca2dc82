"""The layers that go over the defaults: the file, variables of the environment, and options (`--set`) of a command."""

from __future__ import annotations

import copy
import os
import re
import tomllib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from rlm.core.errors import ConfigurationError
from rlm.core.files import read_trusted
from rlm.settings.document import OPTION, SECTIONS
from rlm.settings.faults import Fault, close_match, did_you_mean, show
from rlm.settings.model import BudgetSettings, EndpointSettings, TypeSettings
from rlm.settings.toml import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rlm.settings.document import Layers, Place

FILE_NAME = "rlm.toml"
FILE_VARIABLE = "RLM_CONFIG"
_PREFIX = "RLM_"
_SEPARATOR = "__"

_EXAMPLE = "run.target=0.5 or types.REBALANCE_NEEDED.rate_limit=60/minute"

_TOML_POSITION = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
#: More parts than any key of RLM has. The parser's time grows with the square of their number: a minute for 50,000.
_MOST_PARTS = 50
_LONG_KEY = re.compile(
    rf"""(?<![\w\\-])(?:(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[A-Za-z0-9_-]++)[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}"""
)


def choose_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the absolute path of the file to read: `path`, else `$RLM_CONFIG`, else `./rlm.toml` if it exists.

    Raises:
        ConfigurationError: a named file does not exist, or none is named and the current directory is gone.
    """
    variable = environ.get(FILE_VARIABLE)
    if path is None and variable:
        return _existing(Path(variable), f"environment {FILE_VARIABLE}")
    if path is not None:
        return _existing(path, "--config")
    usual = current_directory() / FILE_NAME
    return usual if os.path.lexists(usual) else None


def current_directory() -> Path:
    """Return the current directory of this process.

    Raises:
        ConfigurationError: it was removed, or may not be read.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigurationError(
            f"the current directory cannot be used ({error.strerror}): go to another, or name a file with --config"
        ) from error


def _existing(path: Path, named_by: str) -> Path:
    if not path.exists():
        raise ConfigurationError(f"{named_by}: there is no file {str(path)!r}; name an existing file or leave it out")
    return path.absolute()


def read_file(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        UnsafeError: another user could change it, or it is no regular file.
        ConfigurationError: it cannot be read, is not UTF-8 or not TOML; the message has line and column.
    """
    try:
        text = read_trusted(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"file {path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"file {path}: cannot be read: {error.strerror}") from error
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigurationError(f"{path}:{line}: is not valid: a key has at most {_MOST_PARTS} parts")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}{_syntax_error(str(error), text)}") from None


def _syntax_error(message: str, text: str) -> str:
    """Return where and why the text is no TOML; the parser puts the position, if any, at the end of its message."""
    found = _TOML_POSITION.search(message)
    if not found:
        return f": is not valid TOML: {message}"
    lines = text.split("\n")
    line, column = found["line"] or len(lines), found["column"] or len(lines[-1]) + 1
    return f":{line}:{column}: is not valid TOML: {message[: found.start()]}"


def with_environment(layers: Layers, environ: Mapping[str, str]) -> tuple[Layers, list[Fault]]:
    """Return `layers` with the values of `environ`, and a fault for each variable that overrides nothing.

    `REDIS_URL` counts as well, below `RLM_REDIS__URL`. A value becomes a number or a list if the setting is one; the
    validation reports a value that cannot be converted.
    """
    known: dict[str, list[tuple[Place, Any]]] = defaultdict(list)
    for setting, annotation in _scalars(layers):  # names that differ in case or punctuation share a variable
        known[variable_name(setting)].append((setting, annotation))
    values: dict[Place, Any] = {}
    origins: dict[Place, str] = {}
    faults = []
    if environ.get("REDIS_URL"):
        values["redis", "url"], origins["redis", "url"] = environ["REDIS_URL"], "environment REDIS_URL"
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or _SEPARATOR not in variable.removeprefix(_PREFIX):
            continue
        match known.get(variable.upper(), []):
            case [(place, kind)]:
                values[place], origins[place] = _convert(environ[variable], kind), f"environment {variable}"
            case candidates:
                subject = f"{variable} = {show((variable,), environ[variable])}"
                faults.append(Fault((), "environment", subject, _unmatched(variable, candidates, known)))
    # A value below a place that should be a table and is not would hide that fault of the file.
    usable = {place: value for place, value in values.items() if isinstance(layers.file.get(str(place[0]), {}), dict)}
    return replace(layers, environment=_nested(usable, layers), origins=origins), faults


def variable_name(place: Iterable[str]) -> str:
    """Return the variable that overrides the setting at `place`; characters not allowed in a variable become `_`."""
    return _PREFIX + _SEPARATOR.join(re.sub(r"[^A-Z0-9_]", "_", part.upper()) for part in place)


def _scalars(layers: Layers) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield place and annotation of each setting that a variable can override."""
    for section, model in SECTIONS.items():
        for key, described in model.model_fields.items():
            yield (section, key), described.annotation
    for kind, tables, entry in (("types", layers.types, TypeSettings), ("budgets", layers.budgets, BudgetSettings)):
        for name in (name for name, table in tables.items() if isinstance(table, dict)):
            for key in sorted(set(entry.model_fields) - {"endpoints"}):
                yield (kind, name, key), entry.model_fields[key].annotation


def _convert(text: str, kind: Any) -> Any:
    """Return `text` as the number or list that a setting of this `kind` is, or unchanged if that is not possible."""
    if get_origin(kind) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    number = next((one for one in (kind, *get_args(kind)) if one in (int, float)), str)
    try:
        return number(text)
    except ValueError:
        return text


def _unmatched(variable: str, candidates: list[tuple[Place, Any]], known: Mapping[str, Any]) -> str:
    if candidates:
        return f"may mean {' or '.join(str(place[1]) for place, _ in candidates)}; set it in the file"
    near = close_match(variable, known, cutoff=0.8)
    return f"no such setting{did_you_mean(near)}; a variable is {_PREFIX}<SECTION>{_SEPARATOR}<KEY>"


def with_options(layers: Layers, texts: Iterable[str]) -> tuple[Layers, list[Fault]]:
    """Return `layers` with the values of `texts`, `KEY=VALUE` each, on top, and a fault for each unreadable text.

    A key is written as in messages: `types.X.endpoints[1].rate_limit`. The validation checks the values.
    """
    known = {dotted(place): (place, kind) for place, kind in _places(layers)}
    values: dict[Place, Any] = {}
    faults = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            faults.append(Fault((), OPTION, show((OPTION,), text), f"is not KEY=VALUE, for example {_EXAMPLE}"))
        elif key not in known:
            subject = f"{key} = {show((key,), value)}"
            faults.append(Fault((), OPTION, subject, _unknown_option(key, [one for one, _ in known.values()])))
        elif known[key][0] in values:
            faults.append(Fault((), OPTION, f"{key} = {show((key,), value)}", "is given twice; once is enough"))
        else:
            place, kind = known[key]
            values[place] = _convert(value, kind)
    origins = {**layers.origins, **dict.fromkeys(values, OPTION)}
    return replace(layers, options=_nested(values, layers), origins=origins), faults


def _places(layers: Layers) -> Iterator[tuple[Place, Any]]:
    """Yield place and annotation of each single value, except below a place that should be a table and is not."""
    for place, kind in _scalars(layers):
        if isinstance(layers.file.get(place[0], {}), dict):
            yield place, kind
    for name, table in layers.types.items():
        endpoints = table.get("endpoints") if isinstance(table, dict) else None
        for number, endpoint in enumerate(endpoints if isinstance(endpoints, list) else []):
            if isinstance(endpoint, dict):
                for key in sorted(set(EndpointSettings.model_fields) - {"headers"}):
                    yield ("types", name, "endpoints", number, key), EndpointSettings.model_fields[key].annotation


def _nested(values: Mapping[Place, Any], layers: Layers) -> dict[str, Any]:
    """Return the values as nested tables. A list replaces the one below it, so it starts as a copy of that one."""
    tables: dict[str, Any] = {}
    for place, value in values.items():
        table: Any = tables
        for depth, part in enumerate(place[:-1], start=1):
            if isinstance(place[depth], int):
                table = table.setdefault(part, copy.deepcopy(layers.find(place[:depth])))
            else:
                table = table[part] if isinstance(part, int) else table.setdefault(part, {})
        table[place[-1]] = value
    return tables


def _unknown_option(key: str, known: Iterable[Place]) -> str:
    """Suggest a key of the named table, of another such table, or any setting."""
    tables: dict[str, list[str]] = defaultdict(list)
    for place in known:
        tables[dotted(place[:-1])].append(str(place[-1]))
    table = max((one for one in tables if key.startswith(f"{one}.")), key=len, default=None)
    if table:
        return _unknown_in_table(table, key.removeprefix(f"{table}."), tables)
    kind = next((one for one in ("types", "budgets") if key.startswith(f"{one}.")), None)
    if kind:
        names = [one for one in tables if one.startswith(f"{kind}.") and not one.endswith("]")]
        parent, _, last = key.rpartition(".")
        near = close_match(parent, names, cutoff=0.7)
        return f"no such setting{_hint(near, last)}; there are {', '.join(names) or f'no {kind}'}"
    near = close_match(key, (dotted(place) for place in known), cutoff=0.6)
    return f"no such setting{did_you_mean(near)}; a key is SECTION.KEY or types.TYPE.KEY, for example {_EXAMPLE}"


def _unknown_in_table(table: str, key: str, tables: Mapping[str, list[str]]) -> str:
    """List the keys of a table, and the first and last of its endpoints."""
    near = None if "[" in key else close_match(key, tables[table])
    entries = [one.removeprefix(f"{table}.") for one in tables if one.startswith(f"{table}.endpoints[")]
    ends = [" to ".join(dict.fromkeys((entries[0], entries[-1])))] if entries else []
    return f"no such setting{_hint(table, near)}; {table} may have {', '.join([*sorted(tables[table]), *ends])}"


def _hint(table: str | None, key: str | None) -> str:
    return did_you_mean(f"{table}.{key}" if table and key else None)
