"""What `rlm queue monitor` shows: Redis, the queues now, and how fast they move."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, NamedTuple

from rlm.admin.queue import oldest_seconds, stats_of
from rlm.core.clock import isoformat, system_clock
from rlm.ledger import Store
from rlm.ledger.reading.backlog import MOST_ITEMS, Waiting, look
from rlm.ledger.reading.books import books
from rlm.ledger.reading.memory import server_state

#: Rates are over this time, in seconds, so that they follow changes quickly; they need samples over at least the other.
RECENT_SECONDS: Final = 60.0
KNOWN_FROM_SECONDS: Final = 5.0
#: Reading all items is repeated after so many times its duration: it takes a tenth of the time.
PATIENCE = 10.0

_MINUTE: Final = 60.0


class QueueSample(NamedTuple):
    """What waits at the instant `at`, in seconds since 1970 by the clock of Redis.

    `items` are on the audit list and in staging, `in_ledger` are unsettled events; `taken`
    counts all events that the ledger ever took.
    """

    at: float
    items: int
    in_ledger: int
    taken: int


class Rates:
    """How fast the queues move, by the samples of the last `RECENT_SECONDS`."""

    def __init__(self) -> None:
        self._samples: deque[QueueSample] = deque()

    def add(self, sample: QueueSample) -> None:
        """Add the newest sample; discard the earlier ones if the clock was set back."""
        if self._samples and sample.at <= self._samples[-1].at:
            self._samples.clear()
        self._samples.append(sample)
        while sample.at - self._samples[0].at > RECENT_SECONDS:
            self._samples.popleft()

    @property
    def arriving(self) -> float | None:
        """Items arriving per minute, None while unknown. Intervals with a drain do not count: it hides arrivals."""
        number, seconds = 0, 0.0
        for before, after in pairwise(self._samples):
            if after.taken == before.taken and after.items >= before.items:
                number += after.items - before.items
                seconds += after.at - before.at
        return _a_minute(number, seconds)

    @property
    def settled(self) -> float | None:
        """Events completed or failed per minute, None while unknown."""
        number = sum(
            max(0, after.taken - before.taken - (after.in_ledger - before.in_ledger))
            for before, after in pairwise(self._samples)
        )
        return _a_minute(number, self._samples[-1].at - self._samples[0].at if self._samples else 0.0)


def _a_minute(number: int, seconds: float) -> float | None:
    return round(number * _MINUTE / seconds, 1) if seconds >= KNOWN_FROM_SECONDS else None


class Monitor:
    """Observes Redis and the queues."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rates = Rates()
        self._items = Sparing(self._read_items, 0.0)

    def look(self) -> dict[str, Any]:
        """Return the present state and the rates.

        The keys include those of `rlm queue stats`. With many items these are read seldom: meanwhile as many of them as
        are left are taken to hold as many events of each type, and the ages are those of then.
        """
        store, found = self._store, books(self._store)
        items, in_ledger = found.events + found.staged, found.unsettled
        self._rates.add(QueueSample(found.now, items, in_ledger, store.intake.ever_taken()))
        waiting, oldest = self._items.get()
        run = store.runs.current()
        left_seconds = round(max(0.0, run.left_seconds(store.now_us())), 3) if run else None
        return {
            "as_of": isoformat(found.now),
            "redis": server_state(store)._asdict(),
            **stats_of(found, _in_items(waiting, items), oldest),
            "run": run and {"run_id": run.id, "state": run.state, "seconds_left": left_seconds},
            "arriving_per_minute": self._rates.arriving,
            "settled_per_minute": self._rates.settled,
        }

    def _read_items(self) -> tuple[Waiting, dict[str, float | None]]:
        """Return what the items hold, and the age of the oldest event of each type."""
        found, waiting = look(self._store)
        return waiting, oldest_seconds(self._store, found, waiting)


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
