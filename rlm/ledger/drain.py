"""The drain of one run: a piece of the audit list at a time, the first one before the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.ledger.scripts import ask

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger.store import Store

#: A run drains so many items before it is planned, which takes a moment, or for so many seconds, if Redis is far away.
FIRST_ITEMS = 10_000
FIRST_SECONDS = 2.0
#: A drain that finds this share of `maxmemory` in use stops: the lanes need the rest to settle their calls.
MEMORY_MARK = 0.9
#: Chunks between two looks at the memory.
LOOK_CHUNKS = 20
#: No drain is so quick that it took less, seconds.
SHORTEST_SECONDS = 0.001


class Drain:
    """Drains for the run `run`, a piece at a time; whoever takes the run over goes on with a drain of its own.

    A million items take most of a minute. The first calls do not wait for that: the conductor drains for a moment,
    plans, and takes the rest between its looks.

    `over` says whether all is taken, or the memory of Redis is used up to its mark: then the rest stays staged, and is
    the first that the next run takes. `left` is how many items it has still to take, and `taken` counts by type the
    events that the run took so far, whoever conducted it.
    """

    def __init__(self, store: Store, token: int, run: Run) -> None:
        self._store = store
        self._token = token
        self.run = run
        self._chunks_taken = 0
        self._is_full = False
        self._worked_seconds = 0.0
        self._look()
        self._taken_before, self._left_before = self.taken, self.left
        self._begin()

    def work(self, seconds: float, goes_on: Callable[[], bool] = lambda: True, items: float = math.inf) -> None:
        """Take chunks for about `seconds`, or until there are so many events, while it `goes_on`; one at least.

        Raises:
            FencedError: another conductor leads.
            StoreError: Redis failed; call it again once Redis is back.
        """
        began = system_clock.monotonic()
        taken = 0
        try:
            for events in self._chunks:
                crash_point("drain.chunk_taken")
                if self._chunks_taken % LOOK_CHUNKS == 0:
                    memory = ask(self._store.client, "INFO", "memory")
                    used, most = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
                    self._is_full = bool(most) and used > MEMORY_MARK * most
                self._chunks_taken += 1
                taken += events
                if self._is_full or taken >= items or not goes_on() or system_clock.monotonic() - began >= seconds:
                    break
            else:
                self._begin()  # somebody may stage more by hand
            self._look()
        except StoreError:
            self._begin()  # an iterator that has raised is at its end
            raise
        finally:
            self._worked_seconds += system_clock.monotonic() - began

    def takes(self, seconds: float) -> int:
        """Estimate how many of the items left can be taken within `seconds`, at the speed of those taken here."""
        items = self._left_before - self.left
        if items <= 0 or math.isinf(seconds):
            return self.left
        return min(self.left, math.ceil(max(0.0, seconds) * items / max(self._worked_seconds, SHORTEST_SECONDS)))

    def untaken(self, seconds: float = math.inf) -> dict[str, int]:
        """Estimate by type how many events the items hold that are taken within `seconds`: as many as those taken here.

        Nothing is known of them before one is taken here.
        """
        items = self._left_before - self.left
        if items <= 0 or not (left := self.takes(seconds)):
            return {}
        return {name: round((number - self._taken_before[name]) * left / items) for name, number in self.taken.items()}

    def _begin(self) -> None:
        priorities = {kind.name: kind.priority for kind in self._store.settings.event_types}
        self._chunks = self._store.intake.drain(self._token, self.run.id, priorities)

    def _look(self) -> None:
        tally = self._store.runs.tally()
        self.taken: Mapping[str, int] = {name: tally.get(f"taken:{name}", 0) for name in self._store.settings.types}
        self.left, staged = self._store.intake.untaken(self.run.id)
        self.over = staged and (not self.left or self._is_full)
