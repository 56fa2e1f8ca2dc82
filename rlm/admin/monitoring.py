"""What `rlm queue monitor` shows: the queues now, their trend, and the outlook."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from statistics import linear_regression
from typing import Any, Final

from rlm.admin.queue import oldest_seconds, stats_of
from rlm.admin.whatif import outlook_now
from rlm.core.clock import isoformat, system_clock
from rlm.ledger import Store
from rlm.ledger.reading.backlog import MOST_ITEMS, Waiting, look
from rlm.ledger.reading.books import books

#: Age of the oldest sample to keep, seconds.
HISTORY_SECONDS: Final = 600.0
#: Rates and growth use the samples of this time only, seconds, so that they follow changes quickly.
RECENT_SECONDS: Final = 60.0
#: Most samples to keep; with shorter intervals they cover less time.
MOST_SAMPLES: Final = 3600
#: Rates and growth need samples over at least this time, seconds.
KNOWN_FROM_SECONDS: Final = 5.0
#: Growth below this many events per minute, or below this part of the waiting events, counts as steady.
STEADY_EVENTS, STEADY_PART = 2.0, 0.02

_MINUTE = 60.0

#: Reading all items and planning are repeated after so many times their duration: they take a tenth of the time.
PATIENCE = 10.0
#: Minimum seconds between two outlooks; the number of windows in one.
OUTLOOK_SECONDS, OUTLOOK_WINDOWS = 30.0, 20
#: The number of newest runs whose leftovers are shown.
SHOWN_RUNS = 20


class Direction(StrEnum):
    """How the number of waiting events changes."""

    GROWING = "growing"
    DRAINING = "draining"
    STEADY = "steady"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class QueueSample:
    """What waits at the instant `at`, in seconds since 1970 by the clock of Redis.

    `items` are on the audit list and in staging, `in_ledger` are unsettled events and those retried by hand; `taken`
    counts all events that the ledger ever took.
    """

    at: float
    items: int
    in_ledger: int
    taken: int


@dataclass
class Trend:
    """The samples of the last `HISTORY_SECONDS`, oldest first."""

    samples: deque[QueueSample] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))
    events_per_item: float = 1.0

    def add(self, sample: QueueSample) -> None:
        """Add the newest sample; discard the earlier ones if the clock was set back."""
        if self.samples and sample.at <= self.samples[-1].at:
            self.samples.clear()
        self.samples.append(sample)
        while sample.at - self.samples[0].at > HISTORY_SECONDS:
            self.samples.popleft()

    @property
    def seconds(self) -> float:
        """The time that the samples cover."""
        return self.samples[-1].at - self.samples[0].at if self.samples else 0.0

    @property
    def _recent(self) -> list[QueueSample]:
        """The samples of the last `RECENT_SECONDS`, oldest first; none while they are too few for a rate."""
        recent = [one for one in self.samples if one.at >= self.samples[-1].at - RECENT_SECONDS]
        return recent if self.seconds >= KNOWN_FROM_SECONDS and len(recent) > 1 else []

    @property
    def waiting(self) -> list[float]:
        """The events that waited at each sample, in items or in the ledger."""
        return [self._waited(one) for one in self.samples]

    def _waited(self, sample: QueueSample) -> float:
        return sample.in_ledger + sample.items * self.events_per_item

    @property
    def arriving(self) -> float | None:
        """Items arriving per minute, None while unknown. Intervals with a drain do not count: it hides arrivals."""
        number, seconds = 0, 0.0
        for before, after in pairwise(self._recent):
            if after.taken == before.taken and after.items >= before.items:
                number += after.items - before.items
                seconds += after.at - before.at
        return number * _MINUTE / seconds if seconds >= KNOWN_FROM_SECONDS else None

    @property
    def settled(self) -> float | None:
        """Events completed or failed per minute, None while unknown."""
        recent = self._recent
        gone = sum(_settled(before, after) for before, after in pairwise(recent))
        return gone * _MINUTE / (recent[-1].at - recent[0].at) if recent else None

    @property
    def settled_each(self) -> list[float]:
        """Events completed or failed per minute, for each interval between samples."""
        return [_settled(one, two) * _MINUTE / (two.at - one.at) for one, two in pairwise(self.samples)]

    @property
    def growth(self) -> float | None:
        """Growth of the waiting events per minute: the slope of a linear regression; None while unknown."""
        recent = self._recent
        if not recent:
            return None
        times, waiting = [one.at - recent[0].at for one in recent], [self._waited(one) for one in recent]
        return linear_regression(times, waiting).slope * _MINUTE

    @property
    def direction(self) -> Direction:
        """Whether the number of waiting events grows."""
        growth = self.growth
        if growth is None:
            return Direction.UNKNOWN
        if abs(growth) < max(STEADY_EVENTS, STEADY_PART * self.waiting[-1]):
            return Direction.STEADY
        return Direction.GROWING if growth > 0 else Direction.DRAINING


def _settled(before: QueueSample, after: QueueSample) -> int:
    return max(0, after.taken - before.taken - (after.in_ledger - before.in_ledger))


class Monitor:
    """Observes the queues and records their trend."""

    def __init__(self, store: Store, start_seconds: float) -> None:
        """Observe `store`; `start_seconds` is the time from a run's start to its first call."""
        self._store = store
        self._start_seconds = start_seconds
        self.trend = Trend()
        self._items = Sparing(self._read_items, 0.0)
        self._outlook = Sparing(self._look_ahead, OUTLOOK_SECONDS)

    def look(self) -> dict[str, Any]:
        """Return the present state and the trend of the queues.

        The keys are those of `rlm queue stats`. With many items these are read seldom: meanwhile as many of them as are
        left are taken to hold as many events of each type, and the ages are those of then.
        """
        store, found, trend = self._store, books(self._store), self.trend
        items, in_ledger = found.events + found.staged, found.unsettled + found.retried
        trend.add(QueueSample(found.now, items, in_ledger, store.intake.ever_taken()))
        waiting, oldest = self._items.get()
        if waiting.events:
            trend.events_per_item = waiting.events.total() / waiting.items
        run = store.runs.current()
        left_seconds = round(max(0.0, run.left_seconds(store.now_us())), 3) if run else None
        return {
            "as_of": isoformat(found.now),
            **stats_of(found, _in_items(waiting, items), oldest),
            "run": run and {"run_id": run.id, "state": run.state, "seconds_left": left_seconds},
            "trend": {
                "seconds": round(trend.seconds, 3),
                "arriving_per_minute": _rounded(trend.arriving),
                "settled_per_minute": _rounded(trend.settled),
                "growth_per_minute": _rounded(trend.growth),
                "direction": trend.direction,
            },
            "last_leftovers": [one["counts"]["leftover"] for one in reversed(store.runs.recent(SHOWN_RUNS))],
            "outlook": self._outlook.get(),
        }

    def _read_items(self) -> tuple[Waiting, dict[str, float | None]]:
        """Return what the items hold, and the age of the oldest event of each type."""
        found, waiting = look(self._store)
        return waiting, oldest_seconds(self._store, found, waiting)

    def _look_ahead(self) -> dict[str, Any] | None:
        """Return the forecast of leftovers if arrivals stay as in the last runs; None if those are unknown."""
        found = outlook_now(self._store, self._start_seconds, OUTLOOK_WINDOWS)
        if found is None:
            return None
        growth = round(found.growth, 3)
        return {"verdict": found.verdict, "drained_in": found.drained_in, "growth_per_window": growth}


def _in_items(waiting: Waiting, items: int) -> dict[str, int]:
    """Estimate by type how many events would be read of so many `items`, from those that were read."""
    part = min(items, MOST_ITEMS) / waiting.items if waiting.items else 0.0
    return {name: round(number * part) for name, number in waiting.events.items()}


class Sparing:
    """Caches a value that takes long to compute: the longer it takes, the longer it is kept.

    Only the quicker of the last two computations counts, because a single slow one may have been held up.
    """

    def __init__(self, find: Callable[[], Any], at_least_seconds: float) -> None:
        self._find = find
        self._at_least_seconds = at_least_seconds
        self._found: Any = None
        self._good_until = float("-inf")
        self._took = math.inf

    def get(self) -> Any:
        """Return the value; compute it anew if it is too old."""
        began = system_clock.monotonic()
        if began >= self._good_until:
            self._found = self._find()
            now = system_clock.monotonic()
            before, self._took = self._took, now - began
            self._good_until = now + max(self._at_least_seconds, PATIENCE * min(before, self._took))
        return self._found


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)
