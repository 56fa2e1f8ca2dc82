"""A moment of a run, as the views show it: read from the store while it is open, from its record at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.clock import system_clock
from rlm.run import State
from rlm.store.processes import Role, WorkerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.endpoint import Endpoint
    from rlm.run import Run
    from rlm.store import Store
    from rlm.store.window import View


@dataclass(frozen=True, slots=True)
class Use:
    """How many of the calls that an endpoint's limit allows are used at this moment."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one type is: events in all, those settled, and the endpoints they go to, the primary first."""

    name: str
    total: int
    completed: int
    failed: int
    endpoints: tuple[Use, ...]

    @property
    def settled(self) -> int:
        """Events that need no more calls."""
        return self.completed + self.failed


@dataclass(frozen=True, slots=True)
class Moment:
    """A run at one moment. Times in seconds; `called_seconds` since its first call, `busy` by worker that is ready."""

    state: State
    elapsed_seconds: float
    window_seconds: float
    types: tuple[Progress, ...]
    plan: Mapping[str, Any] | None = None
    called_seconds: float | None = None
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
    run = store.runs.current()
    if run is None or run.id != run_id:
        return None
    now = system_clock.now()
    ready = [one for one in store.processes.alive(Role.WORKER) if one.state == WorkerState.READY]
    return Moment(
        state=run.state,
        elapsed_seconds=now - run.started_at,
        window_seconds=run.window_seconds,
        types=_progress(store, run),
        plan=run.plan,
        called_seconds=None if run.first_release_at is None else now - run.first_release_at,
        wanted=store.processes.wanted(),
        threads=store.settings.workers.threads,
        busy=tuple(store.processes.busy([one.id for one in ready])),
    )


def _progress(store: Store, run: Run) -> tuple[Progress, ...]:
    tally = store.runs.tally(run.id)
    uses = _uses(store)
    return tuple(
        Progress(
            name=one.name,
            total=tally.get(f"taken:{one.name}", 0) + tally.get(f"carried:{one.name}", 0),
            completed=tally.get(f"completed:{one.name}", 0),
            failed=tally.get(f"failed:{one.name}", 0),
            endpoints=tuple(uses[endpoint.name] for endpoint in one.endpoints),
        )
        for one in store.settings.event_types
    )


def _uses(store: Store) -> dict[str, Use]:
    """Return how much of each endpoint's limit is used now, by name; of several rules the one with the fewest calls."""
    endpoints = list(store.settings.endpoints.values())
    _, views = store.windows.look(endpoints)
    return {one.name: _use(one, views[one.name]) for one in endpoints}


def _use(endpoint: Endpoint, view: View) -> Use:
    limit = min(rule.amount for rule in endpoint.limit.rules)
    return Use(max(0, limit - view.free), limit)


def ended(store: Store, record: Mapping[str, Any]) -> Moment:
    """Return the moment at which a run was closed with `record`: no worker is wanted any more."""
    uses = _uses(store)
    types = tuple(
        Progress(
            name=one.name,
            total=entry["taken"] + entry["carried_over"],
            completed=entry["completed"],
            failed=entry["failed"],
            endpoints=tuple(uses[endpoint.name] for endpoint in one.endpoints),
        )
        for one in store.settings.event_types
        for entry in [record["by_type"][one.name]]
    )
    return Moment(
        state=State(record["state"]),
        elapsed_seconds=record["duration_seconds"],
        window_seconds=record["window_seconds"],
        types=types,
        plan=record["plan"],
    )
