"""How many events arrive between the starts of two runs, as the records tell or as somebody says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rlm.ledger import Store

#: Runs that are looked at, the newest.
RUNS = 20


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Events by type that arrive in `seconds`, a window of today: the mean over so many `windows`, or as `given`.

    With no `windows` nothing is known but what is given, by type.
    """

    by_type: Mapping[str, float]
    seconds: float
    windows: float = 0.0
    given: frozenset[str] = frozenset()

    def but(self, given: Mapping[str, int]) -> Arrivals:
        """Return the same but for the types given, of which so many arrive."""
        return replace(self, by_type={**self.by_type, **given}, given=self.given | set(given))

    def within(self, seconds: float) -> dict[str, float]:
        """Return how many arrive in that time, by type."""
        return {name: number * seconds / self.seconds for name, number in self.by_type.items()}


def measured_arrivals(store: Store) -> Arrivals:
    """Return what was taken a window, `run.every_seconds`, over the last `RUNS` runs.

    Raises:
        StoreError: Redis did not answer.
    """
    found = [store.runs.record(run_id) for run_id in store.runs.history(RUNS + 1)]
    names = [one.name for one in store.settings.event_types]
    every_seconds = store.settings.run.every_seconds
    ticked_at, current = store.schedule.last_tick() or 0.0, store.runs.current()
    # What an open run took stands in no record yet: its window does not count.
    until = min(ticked_at, current.tick - every_seconds) if current else ticked_at
    return arrivals_of([one for one in found if one], names, every_seconds, until)


def arrivals_of(
    records: Sequence[Mapping[str, Any]], types: Iterable[str], every_seconds: float, until: float = 0.0
) -> Arrivals:
    """Return what was taken a window of `every_seconds`, for each of `types`.

    The time is that from the first start to the last, or to the tick at `until` (seconds since 1970) where that is
    later: a tick without anything to do leaves no record. What the first run took had gathered before, nobody knows for
    how long; so it tells only from when on the others did.
    """
    unknown = Arrivals(dict.fromkeys(types, 0.0), every_seconds)
    if not records:
        return unknown
    starts = [datetime.fromisoformat(one["started_at"]).timestamp() for one in records]
    first = min(starts)
    windows = (max(*starts, until) - first) / every_seconds
    if round(windows) < 1:
        return unknown
    later = [one for start, one in zip(starts, records, strict=True) if start > first]
    taken = {name: sum(_taken(one, name) for one in later) / windows for name in unknown.by_type}
    return Arrivals(taken, every_seconds, windows)


def _taken(record: Mapping[str, Any], name: str) -> int:
    taken: int = record["by_type"].get(name, {}).get("taken", 0)
    return taken
