"""TOML: the place of a setting, and how keys, values and tables are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

#: A tree of TOML as `tomllib` reads it. It is untyped until `rlm.settings.layers` has made a `Document` of it.
Tables: TypeAlias = dict[str, Any]
#: The place of a setting: names of tables and keys, indexes of list entries.
Place: TypeAlias = tuple[str | int, ...]


def toml_key(name: str) -> str:
    """Return one part of a key, quoted if necessary."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def toml_value(value: Any) -> str:
    """Return a string, number, boolean, date, list or table as TOML on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            pairs = ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            return str(value)


def dotted(place: Place) -> str:
    """Return the place of a setting as a key: `run.target`, `types.X.endpoints[1].url`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{toml_key(part)}" for part in place)
    return "".join(parts).removeprefix(".")


def toml_document(tables: Mapping[str, Tables]) -> str:
    """Return a TOML document of these tables; their names become the headers."""
    lines: list[str] = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)
