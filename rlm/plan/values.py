"""What goes into a plan and what comes out: plain frozen values, times in seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Window:
    """What the window of an endpoint, or of a budget, holds when the plan is made.

    `ages` are the seconds since each call that may still count, in any order; those too old to count do no harm.
    `rest_seconds` is how long the endpoint gets no call yet, for whatever reason; `held_seconds` how long because its
    window cannot be trusted, `paused_seconds` because an operator said so. `suspect`: it failed, and no probe has been
    answered well since. It is not counted on, whenever its rest ends.
    """

    ages: tuple[float, ...] = ()
    rest_seconds: float = 0.0
    suspect: bool = False
    held_seconds: float = 0.0
    paused_seconds: float = 0.0

    def later(self, seconds: float) -> Window:
        """Return it as it will be `seconds` later, if no call is made."""
        return replace(
            self,
            ages=tuple(age + seconds for age in self.ages),
            rest_seconds=max(0.0, self.rest_seconds - seconds),
            held_seconds=max(0.0, self.held_seconds - seconds),
            paused_seconds=max(0.0, self.paused_seconds - seconds),
        )


@dataclass(frozen=True, slots=True)
class Underway:
    """A call under way when the plan is made, begun `age_seconds` ago."""

    type: str
    endpoint: str
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is when what remains of it is planned: calls under way, and by type the calls begun so far."""

    underway: tuple[Underway, ...] = ()
    begun: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many workers there may be, and the events each has in flight.

    `turnaround_seconds` is what a lane needs from the answer of a call to the beginning of its next.
    """

    min_workers: int
    max_workers: int
    threads: int
    turnaround_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Horizon:
    """Until when calls must be answered, by when they should be, and the guard kept on every period. Seconds.

    An event whose call fails is tried again `backoff_seconds` later, and left over after `max_attempts`. Times
    count from the moment planned for, at which `gone_seconds` of the run have passed; words count from its start.
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
class Release:
    """How many events go to an endpoint from one filling of its window, the first of them at `at_seconds`."""

    at_seconds: float
    endpoint: str
    events: int


@dataclass(frozen=True, slots=True)
class Utilisation:
    """How much of what there is a plan uses from its first call on, as parts of 1.

    `lanes`: the time of all lanes until the last answer. `endpoints`: the slots until the last call begins, of all
    endpoints of the types that have events.
    """

    lanes: float
    endpoints: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workers the backlog needs, when it will be done, what will be left over, and why not sooner.

    `first_call_seconds` is when the first slot is free, counted from the moment planned for; all other times count from
    that first call. `forecast_seconds` is when the last event that fits is answered; no schedule whatever could answer
    the same events before `lower_bound_seconds` with the most workers allowed. `binds` names in words what keeps the
    end from being earlier.
    """

    workers: int
    threads: int
    first_call_seconds: float
    forecast_seconds: float
    lower_bound_seconds: float
    expected_leftover: int
    by_type: Mapping[str, TypePlan]
    releases: tuple[Release, ...]
    utilisation: Utilisation
    binds: str

    @property
    def fits(self) -> bool:
        """Tell whether nothing is expected to be left over."""
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
