"""What is known of one event, of the item it may still be in, and of what it may be waiting for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlm.core.window import Circuit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.core.run import Run
    from rlm.core.trail import Place, TrailCall


@dataclass(frozen=True, slots=True)
class Gate:
    """One endpoint of a type: its health, slots free with its budget's, seconds until there is one; None for never.

    The health is its budget's where that is what shuts it.

    `budget` names the budget where that is what shuts it.
    """

    endpoint: str
    health: Circuit
    free: int
    wait_seconds: float | None
    budget: str | None = None

    @property
    def state(self) -> str:
        """The word that the key `state` of the JSON has for it."""
        if self.free > 0:
            return "free"
        if self.health is Circuit.FULL and self.budget:
            return "out_of_budget"
        return "probed" if self.health is Circuit.PROBING else self.health.value


@dataclass(frozen=True, slots=True)
class Scene:
    """What a type's events wait for. `now` and `next_run_at` in seconds since 1970.

    `next_run_at` is None where no scheduler is alive. `needs_seconds` must be left of a run for a call to be begun,
    None for a type that is no longer configured. `lanes` are those of the ready workers, `busy` the claims they hold;
    `strangers` are ready too, have another configuration than the run, and claim nothing.
    `conducted`: somebody holds the lease.
    """

    now: float
    run: Run | None
    next_run_at: float | None
    gates: tuple[Gate, ...]
    needs_seconds: float | None
    ready: int
    wanted: int
    lanes: int
    busy: int
    workers: frozenset[str]
    max_runs: int
    conducted: bool = True
    strangers: int = 0

    @property
    def remaining_seconds(self) -> float:
        """The time to the deadline of the open run."""
        return self.run.deadline_us / 1_000_000 - self.now if self.run else 0.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter of the event."""

    id: str
    reason: str
    detail: str
    failed_at: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The item of an event that is not taken yet: the how-manieth of how many, and what is wrong with it, if anything.

    `staged` items are those of a drain under way, or of one that was cut short.
    """

    position: int
    of: int
    staged: bool
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """One event as it stands in the ledger. Times in seconds since 1970 by the clock of Redis.

    `due` is by what its place orders: when a release is void, a back-off or a lease over. `position` counts from 1,
    among `of` pending events of its type. `called` is where its call is under way, and since when.
    """

    event_id: str
    now: float
    place: Place
    due: float = 0.0
    position: int | None = None
    of: int | None = None
    endpoint: str = ""
    worker: str = ""
    called: tuple[str, float] | None = None
    attempt: int = 0
    tries: int = 0
    runs: int = 0
    deaths: int = 0
    releases: int = 0
    unsent: int = 0
    calls: int = 0
    taken_at: float | None = None
    taken_in: str | None = None
    last: str = ""
    attempts: tuple[TrailCall, ...] = ()
    queued: Queued | None = None
    letter: Letter | None = None


def number(fields: Mapping[bytes, bytes], name: bytes) -> int:
    """Return a number of an event's hash, 0 where it has none."""
    return int(fields.get(name, 0))
