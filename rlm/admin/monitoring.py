"""What `rlm queue monitor` shows: the queues at this moment, how they have moved, and what is to be expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.arrivals import measured_arrivals
from rlm.admin.stats import lengths, queue_stats
from rlm.admin.trend import Sample, Trend
from rlm.admin.whatif import as_it_is
from rlm.core.clock import isoformat, system_clock
from rlm.ledger.reading.backlog import backlog
from rlm.ledger.reading.books import books

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.ledger import Store

#: Whatever reads all items, or plans, is done again after this many times as long as it took: a tenth of the time.
PATIENCE = 10.0
#: What is to be expected is asked again after this many seconds at the soonest; windows looked at for it.
OUTLOOK_SECONDS, OUTLOOK_WINDOWS = 30.0, 20
#: Runs whose leftovers are shown, the newest.
SHOWN_RUNS = 20


class Monitor:
    """Looks at the queues over and over, and remembers how they were."""

    def __init__(self, store: Store, start_seconds: float) -> None:
        """Look into `store`; `start_seconds` is the time that a run takes to its first call."""
        self._store = store
        self._start_seconds = start_seconds
        self._trend = Trend()
        self._stats = Sparing(lambda: queue_stats(store), 0.0)
        self._outlook = Sparing(self._look_ahead, OUTLOOK_SECONDS)

    def look(self) -> dict[str, Any]:
        """Return how the queues are and move.

        The keys are those of `rlm queue stats`, where what is by type may be a moment old while many items wait.

        Raises:
            StoreError: Redis did not answer.
        """
        store, found = self._store, books(self._store)
        self._trend.add(
            Sample(found.now, found.events + found.staged, found.unsettled + found.retried, store.intake.ever_taken())
        )
        stats = self._stats.get()
        self._learn_events_per_item(stats)
        run = store.runs.current()
        records = store.runs.recent(SHOWN_RUNS)
        return {
            "as_of": isoformat(found.now),
            **lengths(found),
            "by_type": stats["by_type"],
            "run": run
            and {
                "run_id": run.id,
                "state": run.state,
                "seconds_left": round(max(0.0, run.left_seconds(store.now_us())), 3),
            },
            "trend": self._told(),
            "last_leftovers": [one["counts"]["leftover"] for one in reversed(records)],
            "outlook": self._outlook.get(),
        }

    @property
    def trend(self) -> Trend:
        """How the queues have moved."""
        return self._trend

    def _told(self) -> dict[str, Any]:
        one = self._trend
        return {
            "seconds": round(one.seconds, 3),
            "arriving_per_minute": _rounded(one.arriving),
            "settled_per_minute": _rounded(one.settled),
            "growth_per_minute": _rounded(one.growth),
            "direction": one.direction,
        }

    def _learn_events_per_item(self, stats: dict[str, Any]) -> None:
        """Learn how many events an item becomes, from what was read of them all."""
        in_ledger = stats["processing"] + stats["leftover"] + stats["retried"]
        in_items = sum(one["pending"] for one in stats["by_type"].values()) - in_ledger
        if stats["events"] and in_items > 0:
            self._trend.events_per_item = in_items / stats["events"]

    def _look_ahead(self) -> dict[str, Any] | None:
        """Tell what becomes of the leftovers with as many arrivals as in the last runs; None where nothing is known."""
        store = self._store
        arrivals = measured_arrivals(store)
        if not arrivals.windows:
            return None
        case = as_it_is(store, self._start_seconds, fresh=False)
        found = case.outlook(backlog(store).events, arrivals.within(case.settings.run.every_seconds), OUTLOOK_WINDOWS)
        return {
            "verdict": found.verdict,
            "drained_in": found.drained_in,
            "growth_per_window": round(found.growth, 3),
        }


class Sparing:
    """Something that takes long to find out: what was found is good for a while, and the longer the longer it took."""

    def __init__(self, find: Callable[[], Any], at_least_seconds: float) -> None:
        self._find = find
        self._at_least_seconds = at_least_seconds
        self._found: Any = None
        self._good_until = float("-inf")

    def get(self) -> Any:
        """Return what was found last, or find out anew where that is too old."""
        began = system_clock.monotonic()
        if began >= self._good_until:
            self._found = self._find()
            now = system_clock.monotonic()
            self._good_until = now + max(self._at_least_seconds, PATIENCE * (now - began))
        return self._found


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)
