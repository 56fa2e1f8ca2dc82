"""Copies of values with other fields: most are structs, those with hidden fields are dataclasses."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import msgspec

from rlm.core.documents import Record
from rlm.ledger.books import Ending

_V = TypeVar("_V")


def replace(value: _V, **changes: Any) -> _V:
    """Return a copy of a struct or a dataclass with other fields."""
    return (msgspec.structs if isinstance(value, msgspec.Struct) else dataclasses).replace(value, **changes)


def as_json(record):
    """Return a record as its JSON object; None if there is none."""
    return None if record is None else msgspec.json.decode(msgspec.json.encode(record))


def record_from(**fields):
    """Return a record with these fields, as JSON has them, and nothing else of note."""
    moment = "2026-11-25T10:15:00.000Z"
    rest = {
        "run_id": "r",
        "state": "completed",
        "trigger": "schedule",
        "started_at": moment,
        "finished_at": moment,
        "deadline": moment,
        "duration_seconds": 9.0,
        "window_seconds": 180.0,
        "counts": {},
        "by_type": {},
        "by_endpoint": {},
        "plan": {},
        "workers": {},
    }
    return msgspec.convert(rest | fields, Record)


def left_over(plan):
    """Return how many events a plan expects to be left over; it may be a JSON object."""
    return plan["expected_leftover"] if isinstance(plan, dict) else plan.expected_leftover


def ending_of(tally):
    """Return what Redis holds of a run with this tally and no calls."""
    return Ending(tally=tally, endpoints={}, calls=(), restarts=0, sent={}, now_us=0)
