"""How the queues move: rates and growth over the last minute, from samples of what waits, each of one instant."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How far back the samples go, seconds.
HISTORY_SECONDS: Final = 600.0
#: Rates and growth are those of the last so many seconds: what has stopped is not said to go on.
RECENT_SECONDS: Final = 60.0
#: Samples kept at the most: with shorter pauses between them they go back less far.
MOST_SAMPLES: Final = 3600
#: Rates and growth are told from so many seconds of samples on.
KNOWN_FROM_SECONDS: Final = 5.0
#: Growth of less than this many a minute, and than this part of what waits, is none.
STEADY_EVENTS, STEADY_PART = 2.0, 0.02

_MINUTE = 60.0


class Direction(StrEnum):
    """What becomes of what waits."""

    GROWING = "growing"
    DRAINING = "draining"
    STEADY = "steady"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sample:
    """What waits at one instant, seconds since 1970, by the clock of Redis.

    `items` are on the audit list and in staging, `in_ledger` are unsettled events and those retried by hand; `taken`
    counts the events that the ledger ever took.
    """

    at: float
    items: int
    in_ledger: int
    taken: int


@dataclass
class Trend:
    """The samples of the last `HISTORY_SECONDS`, the oldest first; `events_per_item` is what items become."""

    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))
    events_per_item: float = 1.0

    def add(self, sample: Sample) -> None:
        """Add the newest sample; after a step of the clock, what was before tells nothing."""
        if self.samples and sample.at <= self.samples[-1].at:
            self.samples.clear()
        self.samples.append(sample)
        while sample.at - self.samples[0].at > HISTORY_SECONDS:
            self.samples.popleft()

    @property
    def seconds(self) -> float:
        """How far back the samples go."""
        return self.samples[-1].at - self.samples[0].at if self.samples else 0.0

    @property
    def recent(self) -> list[Sample]:
        """The samples of the last `RECENT_SECONDS`, the oldest first."""
        return [one for one in self.samples if one.at >= self.samples[-1].at - RECENT_SECONDS]

    @property
    def waiting(self) -> list[float]:
        """The events that waited at each sample, in items or in the ledger."""
        return self._waiting(self.samples)

    def _waiting(self, samples: Iterable[Sample]) -> list[float]:
        return [one.in_ledger + one.items * self.events_per_item for one in samples]

    @property
    def arriving(self) -> float | None:
        """Items that arrive in a minute, None while that is not known.

        What arrives while a drain empties the list is not seen, so that time does not count.
        """
        number, seconds = 0, 0.0
        for before, after in pairwise(self.recent):
            if after.taken == before.taken and after.items >= before.items:
                number += after.items - before.items
                seconds += after.at - before.at
        return number * _MINUTE / seconds if seconds >= KNOWN_FROM_SECONDS else None

    @property
    def settled(self) -> float | None:
        """Events completed or failed in a minute, None while that is not known."""
        recent = self.recent
        if self.seconds < KNOWN_FROM_SECONDS or len(recent) < 2:  # noqa: PLR2004  # a rate takes two
            return None
        gone = (_settled(before, after) for before, after in pairwise(recent))
        return sum(gone) * _MINUTE / (recent[-1].at - recent[0].at)

    @property
    def settled_each(self) -> list[float]:
        """The same between each two samples."""
        return [_settled(one, two) * _MINUTE / (two.at - one.at) for one, two in pairwise(self.samples)]

    @property
    def growth(self) -> float | None:
        """By how many events what waits grows in a minute, below zero where it shrinks; None while not known.

        It is the slope of the straight line nearest to the samples.
        """
        recent = self.recent
        if self.seconds < KNOWN_FROM_SECONDS or len(recent) < 2:  # noqa: PLR2004  # a slope takes two
            return None
        times, waiting = [one.at - recent[0].at for one in recent], self._waiting(recent)
        mean_time, mean = sum(times) / len(times), sum(waiting) / len(waiting)
        above = sum((at - mean_time) * (number - mean) for at, number in zip(times, waiting, strict=True))
        return above * _MINUTE / sum((at - mean_time) ** 2 for at in times)

    @property
    def direction(self) -> Direction:
        """What becomes of what waits, in a word."""
        growth = self.growth
        if growth is None:
            return Direction.UNKNOWN
        if abs(growth) < max(STEADY_EVENTS, STEADY_PART * self.waiting[-1]):
            return Direction.STEADY
        return Direction.GROWING if growth > 0 else Direction.DRAINING


def _settled(before: Sample, after: Sample) -> int:
    """Count the events that left the ledger between two samples."""
    return max(0, after.taken - before.taken - (after.in_ledger - before.in_ledger))
