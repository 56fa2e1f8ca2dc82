"""All faults of a configuration at once: one line each, with origin, key, value and what is allowed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from rlm.core.text import cut, safe_line
from rlm.settings.document import SECTIONS, Layers, fields_at, upwards
from rlm.settings.kinds import Flaw, Place, Why
from rlm.settings.secrets import MASK, is_secret, mask_value
from rlm.settings.toml import KeyLines, dotted, toml_value

_LONGEST_VALUE = 200
#: Longer keys are cut in messages and get no suggestion.
_LONGEST_KEY = 200
#: How many faults are listed.
_MOST_FAULTS = 100
_NO_LINE = sys.maxsize
#: A number as short as those of settings, or a boolean. Longer numbers may be a key.
_NUMBER = re.compile(r"-?\d{1,5}(?:\.\d{1,5})?|true|false", re.IGNORECASE)


class Fault(msgspec.Struct, frozen=True):
    """One fault. `subject` is the key, with its value if there is one; secrets in it are masked."""

    place: Place
    origin: str
    subject: str
    problem: str


def listed(faults: Iterable[Fault], layers: Layers) -> str:
    """Return the faults, one line each and at most `_MOST_FAULTS`. Those of the file are first, with their line number.

    A missing key has the line of its table.
    """
    lines = KeyLines(layers.text).lines
    located = []
    for one in faults:
        in_file = one.origin == layers.file_name
        line = next((lines[place] for place in upwards(one.place) if in_file and place in lines), None)
        origin = one.origin if not in_file else f"{layers.source}:{line}" if line else str(layers.source)
        counted_only = not one.subject
        located.append((counted_only, line or _NO_LINE, origin, f"{origin}: {one.subject}: {one.problem}"))
    located.sort(key=lambda each: each[:2])
    shown = [text for *_, text in located[:_MOST_FAULTS]]
    if more := len(located) - len(shown):
        shown.append(f"{located[-1][2]}: and {more:,} more")
    return "\n".join(shown)


def fault(layers: Layers, place: Place, problem: str, *, of_key: bool = False) -> Fault:
    """Return the fault of the setting at `place`, or of its key alone (`of_key`). A missing key is the file's fault."""
    value = None if of_key else layers.find(place)
    subject = key_of(place) if value is None else f"{key_of(place)} = {show(place, value)}"
    where = layers.where(place)
    return Fault(place, layers.file_name if where == "default" and layers.source else where, subject, problem)


def show(place: Place, value: Any) -> str:
    """Return a value as the file would have it: secrets masked, long texts cut, tables and lists folded.

    The value of an unknown key, or one in place of a table, may be a secret. It is masked unless it is a small number
    or a boolean.
    """
    if isinstance(value, dict | list) and value:
        return "{...}" if isinstance(value, dict) else "[...]"
    masked = mask_value(place, value) if _is_setting(place) or value in ({}, []) or _is_harmless(place, value) else MASK
    return cut(safe_line(toml_value(masked)), _LONGEST_VALUE)


def _is_harmless(place: Place, value: Any) -> bool:
    number = isinstance(value, bool | int | float | str) and _NUMBER.fullmatch(str(value))
    return bool(number) and not is_secret(str(place[-1]))


def _is_setting(place: Place) -> bool:
    """Return whether `place` is the place of a single value, not of a table or a list of tables."""
    of_table = place[-1] in fields_at(place[:-1]) and place[-1] != "endpoints"
    return len(place) > 1 and ("headers" in place[2:-1] or of_table)


def key_of(place: Place) -> str:
    """Return the key of a place for a message, safe and cut, because a name in it may be any text."""
    return cut(safe_line(dotted(place)), _LONGEST_VALUE)


def faults_of(flaws: Iterable[Flaw], layers: Layers) -> Iterator[Fault]:
    """Yield the faults of what is wrong in the tables of `layers`."""
    for number, flaw in enumerate(flaws):
        if number >= _MOST_FAULTS:
            yield Fault(flaw.place, layers.file_name, "", "")  # counted but not listed
        else:
            yield fault(layers, flaw.place, _problem(flaw), of_key=flaw.of_key)


def _problem(flaw: Flaw) -> str:
    match flaw.why:
        case Why.MISSING:
            return f"is missing; give {_allowed(flaw.place)}"
        case Why.UNKNOWN:
            return _unknown(flaw.place)
        case Why.NOT_ALLOWED:
            return flaw.told or f"must be {_allowed(flaw.place)}"


def _allowed(place: Place) -> str:
    """Return words for what is allowed at `place`, or for any entry of the list or table that contains it."""
    *parent, key = place
    if described := fields_at(tuple(parent)).get(str(key)):
        return described.allowed or f"a table, [{key}]"
    match parent:
        case ["types" | "budgets"]:
            return f"a table, [{key_of(place)}]"
        case [*_, "endpoints"]:
            return '{ name = "...", url = "..." }'
        case _:
            return "a text"


def _unknown(place: Place) -> str:
    *parent, last = place
    key = str(last)
    known = fields_at(tuple(parent))
    elsewhere = (f"{name}.{key}" for name, other in SECTIONS.items() if key in other.settings())
    hint = did_you_mean(key, known) or did_you_mean(key, elsewhere, cutoff=0.0)
    return f"unknown key{hint}; {_table(parent)} may have {', '.join(known)}"


def _table(place: list[str | int]) -> str:
    match place:
        case []:
            return "the file"
        case [*_, int()]:
            return "an endpoint"
        case _:
            return f"[{key_of(tuple(place))}]"


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return a suffix with the known name closest to `name`, ignoring case; empty if none is close."""
    if len(name) > _LONGEST_KEY:
        return ""
    import difflib  # noqa: PLC0415  # needed only after a typing error

    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=cutoff)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""
