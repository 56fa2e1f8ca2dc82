"""The figures by which a contender is judged, all from the server's log of arrivals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rlm.sandbox.mockapi import Arrival
    from rlm.settings import Settings


@dataclass(frozen=True, slots=True)
class Figures:
    """The result of one run, times in seconds.

    `makespan` is from the first call to the last good answer, `first_call` from the start to the first call.
    `in_window` are events answered well by the end of the run's window, `refused` calls answered 429, `repeats` calls
    of an event beyond the first admitted one, `undone` events never answered well.
    """

    makespan: float
    first_call: float
    in_window: int
    refused: int
    repeats: int
    undone: int

    @property
    def total(self) -> float:
        """The time from the start to the last good answer, including all work before the first call."""
        return self.first_call + self.makespan


def measure(arrivals: Sequence[Arrival], events: Collection[str], settings: Settings, started_at: float) -> Figures:
    """Judge a run of `events` (ids) that was started at `started_at`, in monotonic seconds."""
    takes = {end.name: one.processing_seconds for one in settings.event_types for end in one.endpoints}
    answered: dict[str, float] = {}
    for one in arrivals:
        if one.status == 200 and one.event_id in events:
            answered.setdefault(one.event_id, one.at + takes[one.endpoint])
    first = min((one.at for one in arrivals), default=started_at)
    admitted = Counter(one.event_id for one in arrivals if one.accepted)
    window_ends = started_at + settings.run.window_seconds
    return Figures(
        makespan=max(answered.values(), default=first) - first,
        first_call=first - started_at,
        in_window=sum(at <= window_ends for at in answered.values()),
        refused=sum(not one.accepted for one in arrivals),
        repeats=sum(admitted.values()) - len(admitted),
        undone=len(events) - len(answered),
    )
