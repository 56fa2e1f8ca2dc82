"""What `rlm queue monitor` shows: Redis, the queues now, and how fast they move."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final, NamedTuple

from msgspec.structs import asdict

from rlm.admin.queue import queue_stats
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import QueueLook, RunNow, ServerState
from rlm.ledger.store import Store

#: Rates are over this time, in seconds, so that they follow changes quickly; they need samples over at least the other.
RECENT_SECONDS: Final = 60.0
KNOWN_FROM_SECONDS: Final = 5.0


class QueueSample(NamedTuple):
    """What waits at the instant `at`, in seconds since 1970 by the clock of Redis.

    `items` are on the audit list and in staging, `in_ledger` are unsettled events; `taken` counts all events that the
    ledger ever took.
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
    return round(number * 60 / seconds, 1) if seconds >= KNOWN_FROM_SECONDS else None


class Monitor:
    """Observes Redis and the queues."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rates = Rates()

    def look(self) -> QueueLook:
        """Return the present state and the rates."""
        store, stats, run = self._store, queue_stats(self._store), self._store.runs.current()
        now_us = store.now_us()
        now, items = now_us / 1_000_000, stats.events + stats.staged
        self._rates.add(QueueSample(now, items, stats.processing + stats.leftover, store.intake.ever_taken()))
        left_seconds = round(max(0.0, run.left_seconds(now_us)), 3) if run else 0.0
        return QueueLook(
            **asdict(stats),
            as_of=isoformat(now),
            redis=_server_state(store),
            run=RunNow(run_id=run.id, state=run.state, seconds_left=left_seconds) if run else None,
            arriving_per_minute=self._rates.arriving,
            settled_per_minute=self._rates.settled,
        )


def _server_state(store: Store) -> ServerState:
    began = system_clock.monotonic()
    store.ping()
    milliseconds = round((system_clock.monotonic() - began) * 1000, 1)
    memory = store.client.info("memory")
    used, most = (int(memory.get(name, 0)) for name in ("used_memory", "maxmemory"))
    return ServerState(ping_ms=milliseconds, used_bytes=used, max_bytes=most)
