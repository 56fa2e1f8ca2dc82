"""A moment of a run, as the views show it: read from the store while it is open, from its record at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.admin import report
from rlm.core.run import State
from rlm.ledger.processes import WorkerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.ledger import Store


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one type is: events in all, and those settled."""

    name: str
    total: int
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A run at one moment, by the document `found`: what a line tells of it, in seconds, `busy` by ready worker."""

    found: Mapping[str, Any]
    state: State
    elapsed_seconds: float
    window_seconds: float
    types: tuple[Progress, ...]
    plan: Mapping[str, Any] | None = None
    wanted: int = 0
    threads: int = 0
    busy: tuple[int, ...] = ()

    @property
    def left_seconds(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.window_seconds - self.elapsed_seconds)

    @property
    def total(self) -> int:
        """Events of the run."""
        return sum(one.total for one in self.types)

    @property
    def completed(self) -> int:
        """Events completed."""
        return sum(one.completed for one in self.types)


def look(store: Store, run_id: str) -> Moment | None:
    """Look at a run; None when it is not open any more."""
    return moment_of(report.status(store, run_id, measured=False)) if store.runs.is_open(run_id) else None


def moment_of(found: Mapping[str, Any]) -> Moment:
    """Return the moment that a status document or a record tells of."""
    state, workers = State(found["state"]), found["workers"]
    left = found.get("seconds_left")
    return Moment(
        found=found,
        state=state,
        elapsed_seconds=found["duration_seconds"] if left is None else found["window_seconds"] - left,
        window_seconds=found["window_seconds"],
        types=tuple(_progress(name, entry) for name, entry in found["by_type"].items()),
        plan=None if state in {State.DRAINING, State.PLANNING} else found["plan"],
        wanted=workers.get("wanted", 0),
        threads=found["plan"]["threads"],
        busy=tuple(one["busy"] for one in workers.get("each", ()) if one["state"] == WorkerState.READY),
    )


def _progress(name: str, entry: Mapping[str, Any]) -> Progress:
    return Progress(name, entry["taken"] + entry["carried_over"], entry["completed"], entry["failed"])
