"""How many events arrive between the starts of two runs, as the records tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rlm.store import Store

#: Records that are looked at, the newest.
RECORDS = 20


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Events by type that arrive in `seconds`: the mean over so many `windows` of them, in which there were `runs`."""

    by_type: Mapping[str, float]
    seconds: float
    windows: int
    runs: int

    def within(self, seconds: float) -> dict[str, float]:
        """Return how many arrive in that time, by type."""
        return {name: number * seconds / self.seconds for name, number in self.by_type.items()}


def measured_arrivals(store: Store) -> Arrivals:
    """Return what was taken a window, `run.every_seconds`, over the last `RECORDS` runs.

    Raises:
        StoreError: Redis did not answer.
    """
    found = [store.runs.record(run_id) for run_id in store.runs.history(RECORDS)]
    names = [one.name for one in store.settings.event_types]
    every_seconds = store.settings.run.every_seconds
    ticked_at, current = store.runs.last_tick() or 0.0, store.runs.current()
    # What an open run took stands in no record yet: its window does not count.
    until = min(ticked_at, current.started_at - every_seconds) if current else ticked_at
    return arrivals_of([one for one in found if one], names, every_seconds, until)


def arrivals_of(
    records: Sequence[Mapping[str, Any]], types: Iterable[str], every_seconds: float, until: float = 0.0
) -> Arrivals:
    """Return what was taken a window of `every_seconds`, for each of `types`.

    The windows are those from the first start to the last, or to the tick at `until` (seconds since 1970) where that is
    later: a tick without anything to do leaves no record, and a run started by hand is no window more.
    """
    if not records:
        return Arrivals(dict.fromkeys(types, 0.0), every_seconds, 0, 0)
    starts = [datetime.fromisoformat(one["started_at"]).timestamp() for one in records]
    windows = 1 + round((max(*starts, until) - min(starts)) / every_seconds)
    taken = {name: sum(one["by_type"].get(name, {}).get("taken", 0) for one in records) / windows for name in types}
    return Arrivals(taken, every_seconds, windows, len(records))
