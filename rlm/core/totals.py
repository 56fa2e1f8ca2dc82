"""What is counted over all runs: what a closed run adds to the totals beside its counts, and their histograms. Pure.

The totals are one hash of whole numbers, which only grow. Closing a run moves its counts there, `what:name`, with

- `leftover:TYPE`, `runs:STATE`,
- histograms: `what<=BOUND:NAME` counts what took at most that many seconds and more than the bound before, and
  `what_us:NAME` adds their microseconds up: whole, so that no rounding ever lets a counter go back.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rlm.core.expected import Completed

#: What the histograms are of, and their bounds in seconds: `call` from when a call was sent to its answer, `wait` from
#: an event's claim to its call's slot, `answer` from when an event was taken to the answer that completed it, `run`
#: from a run's start to its close, `forecast` by how much the plan was off.
BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    "call": (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30),
    "wait": (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    "answer": (1, 5, 15, 30, 60, 120, 180, 300, 600, 1800, 3600),
    "run": (1, 5, 15, 30, 60, 90, 120, 150, 180, 300, 600, 1800, 3600),
    "forecast": (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
}

#: A first call follows its release within this time, seconds.
TRAVEL_SECONDS = 1.0

_MICROSECONDS = 1_000_000
#: Only of these does a plan say when they end; others were cut off.
_FORESEEN = frozenset({"completed", "partial"})


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many took at most so many seconds, by bound, the last being infinite; and all of them together, seconds."""

    at_most: Mapping[float, int]
    seconds: float

    @property
    def number(self) -> int:
        """How many there are."""
        return self.at_most[math.inf]


def observe(fields: Counter[str], what: str, seconds: float, name: str = "") -> None:
    """Count one more in the histogram of `what` of `name`; below 0, where a clock was set back, counts as 0."""
    seconds = max(0.0, seconds)
    bound = next((one for one in BOUNDS[what] if seconds <= one), math.inf)
    fields[f"{what}<={bound:g}:{name}"] += 1
    fields[f"{what}_us:{name}"] += round(seconds * _MICROSECONDS)


def histograms(fields: Mapping[str, int], what: str) -> dict[str, Histogram]:
    """Return the histograms of `what` by name. Numbers with bounds of an older version count with the next one."""
    counts: dict[str, Counter[float]] = {}
    start = f"{what}<="
    for field, number in fields.items():
        if field.startswith(start):
            bound, _, name = field.removeprefix(start).partition(":")
            counts.setdefault(name, Counter())[float(bound)] += number
    return {
        name: Histogram(
            {
                bound: sum(number for one, number in found.items() if one <= bound)
                for bound in (*BOUNDS[what], math.inf)
            },
            fields.get(f"{what}_us:{name}", 0) / _MICROSECONDS,
        )
        for name, found in counts.items()
    }


def of_calls(calls: Iterable[Completed]) -> Counter[str]:
    """Return what completed calls add to the totals."""
    fields: Counter[str] = Counter()
    for call in calls:
        observe(fields, "call", call.milliseconds / 1000, call.endpoint)
        observe(fields, "wait", call.waited_ms / 1000, call.endpoint)
        observe(fields, "answer", call.age_ms / 1000, call.type)
    return fields


def of_run(record: Mapping[str, Any], calls: Iterable[Completed]) -> Counter[str]:
    """Return what a run that is being closed adds to the totals beside its counts."""
    fields = of_calls(calls)
    for name, entry in record["by_type"].items():
        fields[f"leftover:{name}"] += entry["leftover"]
    fields[f"runs:{record['state']}"] += 1
    observe(fields, "run", record["duration_seconds"])
    error = forecast_error(record)
    if error is not None:
        observe(fields, "forecast", abs(error))
    return fields


def forecast_error(record: Mapping[str, Any]) -> float | None:
    """Return by how much later than planned a run's last answer came, seconds; None where there is nothing to compare.

    Both are counted from the first call. A run that was cancelled or failed was not let to its end.
    """
    plan = record["plan"]
    if record["state"] not in _FORESEEN or not plan.get("forecast_seconds") or "actual_seconds" not in plan:
        return None
    return float(plan["actual_seconds"]) - float(plan["forecast_seconds"])


def actual_seconds(calls: Sequence[Completed], released_us: int | None = None) -> float | None:
    """Return how long it was from the first call to the last answer that completed an event; None if that is not known.

    The first call is the first that was completed, or one at `released_us` (microseconds of Redis time), when the run's
    first event was released, if that was more than `TRAVEL_SECONDS` before: its first calls failed then.
    """
    timed = [call for call in calls if call.at_us]
    if not timed:
        return None
    began_us = min(call.at_us - call.milliseconds * 1000 for call in timed)
    if released_us is not None and began_us - released_us > TRAVEL_SECONDS * _MICROSECONDS:
        began_us = released_us
    return round((max(call.at_us for call in timed) - began_us) / _MICROSECONDS, 3)
