"""Copies of values with other fields: most are structs, those with hidden fields are dataclasses."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import msgspec

_V = TypeVar("_V")


def replace(value: _V, **changes: Any) -> _V:
    """Return a copy of a struct or a dataclass with other fields."""
    return (msgspec.structs if isinstance(value, msgspec.Struct) else dataclasses).replace(value, **changes)


def as_json(record):
    """Return a record as its JSON object; None if there is none."""
    return None if record is None else msgspec.json.decode(msgspec.json.encode(record))
