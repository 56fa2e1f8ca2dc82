"""What a command is told to take for granted, `--set KEY=VALUE`: one more layer, over the environment and the file."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlm.settings.faults import Fault, close_match, did_you_mean, show
from rlm.settings.layers import OPTION
from rlm.settings.model import EndpointSettings
from rlm.settings.sources import convert, scalars
from rlm.settings.toml import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rlm.settings.layers import Layers, Place

_EXAMPLE = "run.target=0.5 or types.REBALANCE_NEEDED.rate_limit=60/minute"


def with_options(layers: Layers, texts: Iterable[str]) -> tuple[Layers, list[Fault]]:
    """Put the values of `texts`, `KEY=VALUE` each, over `layers`; what cannot be read is a fault each.

    A key is written as messages write it, `types.X.endpoints[1].rate_limit`. Whether a setting may have the value is
    left for the validation to say.
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
            faults.append(Fault((), OPTION, subject, _unknown(key, [one for one, _ in known.values()])))
        elif known[key][0] in values:
            faults.append(Fault((), OPTION, f"{key} = {show((key,), value)}", "is given twice; once is enough"))
        else:
            place, kind = known[key]
            values[place] = convert(value, kind)
    return replace(layers, options=_tables(values, layers), told=frozenset(values)), faults


def _places(layers: Layers) -> Iterator[tuple[Place, Any]]:
    """Yield the place and the annotation of each single value; not of one under what should be a table and is none."""
    types = {name: table for name, table in layers.types.items() if isinstance(table, dict)}
    budgets = [name for name, table in layers.budgets.items() if isinstance(table, dict)]
    for place, kind in scalars(types, budgets):
        if isinstance(layers.file.get(place[0], {}), dict):
            yield place, kind
    for name, table in types.items():
        endpoints = table.get("endpoints")
        for number, endpoint in enumerate(endpoints if isinstance(endpoints, list) else []):
            if isinstance(endpoint, dict):
                for key in sorted(set(EndpointSettings.model_fields) - {"headers"}):
                    yield ("types", name, "endpoints", number, key), EndpointSettings.model_fields[key].annotation


def _tables(values: dict[Place, Any], layers: Layers) -> dict[str, Any]:
    """Write the values as nested tables. A list replaces the one below it, so it is that one with the values in it."""
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


def _unknown(key: str, known: Iterable[Place]) -> str:
    """Say what may be meant: a key of the table that is named, one of another such table, or any setting."""
    tables: dict[str, list[str]] = defaultdict(list)
    for place in known:
        tables[dotted(place[:-1])].append(str(place[-1]))
    table = max((one for one in tables if key.startswith(f"{one}.")), key=len, default=None)
    if table:
        return _unknown_in(table, key.removeprefix(f"{table}."), tables)
    kind = next((one for one in ("types", "budgets") if key.startswith(f"{one}.")), None)
    if kind:
        names = [one for one in tables if one.startswith(f"{kind}.") and not one.endswith("]")]
        parent, _, last = key.rpartition(".")
        near = close_match(parent, names, cutoff=0.7)
        return f"no such setting{_hint(near, last)}; there are {', '.join(names) or f'no {kind}'}"
    near = close_match(key, (dotted(place) for place in known), cutoff=0.6)
    return f"no such setting{did_you_mean(near)}; a key is SECTION.KEY or types.TYPE.KEY, for example {_EXAMPLE}"


def _unknown_in(table: str, key: str, tables: Mapping[str, list[str]]) -> str:
    """Say which keys a table may have, and of its endpoints the first and the last."""
    near = None if "[" in key else close_match(key, tables[table])
    entries = [one.removeprefix(f"{table}.") for one in tables if one.startswith(f"{table}.endpoints[")]
    ends = [" to ".join(dict.fromkeys((entries[0], entries[-1])))] if entries else []
    return f"no such setting{_hint(table, near)}; {table} may have {', '.join([*sorted(tables[table]), *ends])}"


def _hint(table: str | None, key: str | None) -> str:
    return did_you_mean(f"{table}.{key}" if table and key else None)
