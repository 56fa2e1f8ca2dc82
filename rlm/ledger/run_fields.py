"""How what is kept of a run is read: its hash and its counts while it is open, then its record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from rlm.core.run import Run, State, Trigger
from rlm.core.text import safe_line
from rlm.core.trail import Counts
from rlm.ledger.connect import text
from rlm.ledger.schema import is_record

log = logging.getLogger(__name__)


def read_tally(found: Mapping[bytes, bytes]) -> dict[str, int]:
    """Read the counts of a run."""
    return {text(name): int(number) for name, number in found.items()}


def read_record(run_id: str, raw: bytes | None) -> dict[str, Any] | None:
    """Read the record of a closed run; None if there is none, or what is kept is no record, which is logged."""
    if raw is None:
        return None
    if is_record(raw):
        return cast("dict[str, Any]", msgspec.json.decode(raw))
    log.warning(
        "What is kept of run %s is no record, and left out; see `rlm doctor`",
        safe_line(run_id),
        extra={"action": "read_record"},
    )
    return None


#: How each field of a run's hash is read.
_READ: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("started_at", "deadline", "window_seconds"), float),
    "state": State,
    "trigger": Trigger,
    "deadline_us": int,
    "revision": str,
    "cancelled": bool,
    **dict.fromkeys(("plan", "forecast", "waits", "spent", "late"), msgspec.json.decode),
    **dict.fromkeys(("first_release_at", "tick", "away_seconds"), float),
    **dict.fromkeys(("workers_peak", "restarts_before", "ever_taken", "untaken"), int),
    **dict.fromkeys(("failure", "stopped"), str),
}


def write_waits(waits: Mapping[str, Any], counts: Mapping[str, Counts], untaken: int) -> dict[str, str]:
    """Return the fields of a run's hash that say at its end why events are left over.

    They are what the events waited for, how many of each type in `counts` are spent, how many items were not taken.
    """
    spent = {name: count.spent for name, count in counts.items() if count.spent}
    found = {"waits": _written(waits), "spent": _written(spent)}
    return {**found, **({"untaken": str(untaken)} if untaken else {})}


def _written(value: object) -> str:
    return msgspec.json.encode(value).decode()


def read_run(run_id: str, fields: Mapping[bytes, bytes]) -> Run:
    """Read a run's hash. Raises ValueError, LookupError or TypeError for what is none."""
    found = {text(name): text(value) for name, value in fields.items()}
    read = {name: _READ[name](value) for name, value in found.items() if name in _READ}
    return Run(run_id, **{"tick": read["started_at"], **read})
