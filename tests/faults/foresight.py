"""Compares the forecasts in the status of a run with its result.

A forecast counts from `SETTLED_SECONDS` after the moment at which RLM could know: the first call, or a later change, or
the first sign of a change that shows later (a supervisor falls silent, an endpoint starts to rest).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from rlm.core.errors import StoreError
from tests.values import as_json, left_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.system import System

#: Seconds after which, from when RLM could know, the forecast must be right.
SETTLED_SECONDS = 2.0
#: The allowed error of the end as a part of the run from first call to last answer; of the leftovers, of all events.
CLOSE_END = 0.05
CLOSE_LEFTOVER = 0.02
#: Seconds between two looks at it.
POLL_SECONDS = 0.05


@dataclass
class Foresight:
    """Reads the forecast of the open run in its own thread, until it is told to stop.

    `knows` returns whether RLM can know the change by now; it is called from `change` on.
    """

    system: System
    knows: Callable[[System], Any]
    seen: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    known_at: float | None = None

    def __post_init__(self) -> None:
        self.changed = threading.Event()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.follow, name="foresight")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stopped.set()
        self.thread.join()

    def change(self) -> None:
        """Note that the change has been made."""
        self.changed.set()

    def follow(self) -> None:
        while not self.stopped.wait(POLL_SECONDS):
            try:
                run = self.system.store.runs.current()
                if run is not None and run.forecast:
                    self.seen.append((time.monotonic(), as_json(run.forecast)))
                if self.known_at is None and self.changed.is_set() and self.knows(self.system):
                    self.known_at = time.monotonic()
            except StoreError:
                continue  # nobody sees anything then

    def settled(self) -> list[dict[str, Any]]:
        """Return what was seen once the forecast had to be right."""
        calls = [one.at for one in self.system.api.arrivals]
        since = max(self.known_at, min(calls, default=0.0)) if self.known_at else float("inf")
        return [forecast for at, forecast in self.seen if at >= since + SETTLED_SECONDS]

    def worst(self, record: dict[str, Any]) -> Worst:
        """Compare the forecasts with the result."""
        counts, forecasts, came = record["counts"], self.settled(), took_seconds(self.system)
        events = counts["taken"] + counts["carried_over"]
        return Worst(
            len(forecasts),
            came,
            max((one["forecast_seconds"] - came for one in forecasts), key=abs, default=0.0),
            events,
            counts["leftover"],
            max((left_over(one) - counts["leftover"] for one in forecasts), key=abs, default=0),
        )


@dataclass(frozen=True)
class Worst:
    """The largest errors of forecasts: `seconds` of the `came` that the run took, `leftover` of its `events`."""

    forecasts: int
    came: float
    seconds: float
    events: int
    left: int
    leftover: int

    @property
    def close(self) -> bool:
        return abs(self.seconds) <= CLOSE_END * self.came and abs(self.leftover) <= CLOSE_LEFTOVER * self.events

    def __str__(self) -> str:
        share = self.seconds / self.came if self.came else 0.0
        return (
            f"{self.forecasts} forecasts; it took {self.came:.2f} s, at worst {self.seconds:+.2f} s foretold"
            f" ({share:+.1%}); {self.left} of {self.events} left over, at worst {self.leftover:+d}"
            f" ({self.leftover / self.events:+.1%})"
        )


def took_seconds(system: System) -> float:
    """Return the seconds from the first call to the last completing answer, by the API's log; 0 if there was none."""
    takes = {end.name: one.processing_seconds for one in system.settings.event_types for end in one.endpoints}
    slow = {name: faults.slow for name, faults in system.api.faults.items()}
    arrivals = system.api.arrivals
    answered = [one.at + takes[one.endpoint] * slow[one.endpoint] for one in arrivals if one.status == 200]
    return max(answered) - min(one.at for one in arrivals) if answered else 0.0
