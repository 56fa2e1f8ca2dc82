"""What goes into a plan and what comes out of it: plain frozen values, times in seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.core.endpoint import EventType
    from rlm.core.expected import Expected, Pair
    from rlm.core.window import WindowState


@dataclass(frozen=True, slots=True)
class Underway:
    """A call under way when the plan is made, begun `age_seconds` ago."""

    type: str
    endpoint: str
    age_seconds: float


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is when the rest of it is planned: the calls under way, and by type the calls begun so far.

    Of its lanes `ready_lanes` are ready now, and more come up after `coming_up_seconds`; None if all are ready.
    """

    underway: tuple[Underway, ...] = ()
    begun: Mapping[str, int] = field(default_factory=dict)
    ready_lanes: int | None = None
    coming_up_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Workload:
    """The work to plan, and what it meets.

    `backlog` counts the events waiting, by type. A type that is not among `types` is left out: a run makes its events
    dead letters. `types` are the configured ones, from high to low priority. `windows` are those of endpoints and
    budgets, by name; one that is missing is fresh. `expected` is what calls were measured to be like, where known.
    `progress` is how far a run is whose rest is planned; its calls under way are answered first.
    """

    backlog: Mapping[str, int]
    types: Sequence[EventType]
    windows: Mapping[str, WindowState] = field(default_factory=dict)
    expected: Mapping[Pair, Expected] = field(default_factory=dict)
    progress: RunProgress | None = None

    @property
    def suspects(self) -> set[str]:
        """The endpoints and budgets that failed and have not answered well since: no plan counts on them."""
        return {name for name, window in self.windows.items() if window.suspect}


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many workers there may be, and how many lanes, `threads`, each of them has.

    `turnaround_seconds` is what a lane needs from the answer of a call to the beginning of its next.
    """

    min_workers: int
    max_workers: int
    threads: int
    turnaround_seconds: float = 0.0

    @property
    def lanes(self) -> int:
        """The lanes of all workers that are allowed."""
        return self.max_workers * self.threads

    def exactly(self, workers: int | None) -> Capacity:
        """Return the same for exactly this number of workers, whatever is allowed; unchanged for None."""
        return self if workers is None else replace(self, min_workers=workers, max_workers=workers)


@dataclass(frozen=True, slots=True)
class Horizon:
    """Until when calls must be answered, by when they should be, and the guard added to every period. Seconds.

    An event whose call fails is tried again `backoff_seconds` later, and left over after `max_attempts`. Times count
    from the moment planned for, when `gone_seconds` of the run have passed; sentences count from the run's start.
    """

    deadline_seconds: float
    target_seconds: float
    guard_seconds: float
    max_attempts: int = 3
    backoff_seconds: float = 0.5
    gone_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TypePlan:
    """One type's part in a plan. `forecast_seconds` is when its last event that fits is answered, 0 if none does."""

    events: int
    expected_leftover: int
    forecast_seconds: float


@dataclass(frozen=True, slots=True)
class PlannedRelease:
    """How many events go to an endpoint in one filling of its window, the first of them at `at_seconds`."""

    at_seconds: float
    endpoint: str
    events: int


@dataclass(frozen=True, slots=True)
class Utilisation:
    """How much of lanes and slots a plan uses from its first call on, as parts of 1.

    `lanes`: the time of all lanes until the last answer. `endpoints`: the slots until the last call begins, of all
    endpoints of the types that have events.
    """

    lanes: float
    endpoints: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workers the backlog needs, when it will be done, what will be left over, and why not sooner.

    `first_call_seconds` is when the first slot is free, counted from the moment planned for; all other times count from
    that first call. `forecast_seconds` is when the last event that fits is answered; with the most workers allowed no
    schedule could answer the same events before `lower_bound_seconds`. `binds` is the sentence that names what keeps
    the end from being earlier.
    """

    workers: int
    threads: int
    first_call_seconds: float
    forecast_seconds: float
    lower_bound_seconds: float
    expected_leftover: int
    by_type: Mapping[str, TypePlan]
    releases: tuple[PlannedRelease, ...]
    utilisation: Utilisation
    binds: str

    @property
    def fits(self) -> bool:
        """Return whether nothing is expected to be left over."""
        return self.expected_leftover == 0

    def as_json(self) -> dict[str, Any]:
        """Return what `rlm plan --json` prints, ready to be encoded."""
        return {
            "workers": self.workers,
            "threads": self.threads,
            "first_call_seconds": self.first_call_seconds,
            "forecast_seconds": self.forecast_seconds,
            "lower_bound_seconds": self.lower_bound_seconds,
            "expected_leftover": self.expected_leftover,
            "fits": self.fits,
            "by_type": {name: asdict(part) for name, part in self.by_type.items()},
            "releases": [asdict(release) for release in self.releases],
            "binds": self.binds,
            "utilisation": asdict(self.utilisation),
        }
