"""Closes a run whose conductor let its deadline pass: it died, froze, or lost Redis. Workers and standbys look.

That takes no lease: the run's own state decides, and whoever conducted it is deposed in the same step.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.run import Run
from rlm.delivery.run_end import REDIS_AWAY, close_overdue
from rlm.ledger import Store

#: For so long a run must be seen overdue before others than its conductor close it, seconds: that awaits what lanes
#: write of calls cut at the deadline (0.25 s), and meets a Redis that was away a moment later than others do.
PATIENCE_SECONDS = 0.4
#: Others than the first wait up to so much longer, seconds: they need not all close it at once.
SPREAD_SECONDS = 0.25
#: A look that comes so much later than it was due begins anew, seconds: this process stood still.
LAPSE_SECONDS = 0.5
#: Pause after Redis failed, or after the run was closed here or by another at the same time, seconds.
AGAIN_SECONDS = 0.25
#: A deadline that is nearer than this wakes whoever is to look, seconds: it sleeps no longer than a heartbeat.
NEAR_SECONDS = 5.0

log = logging.getLogger(__name__)


class OverdueWatch:
    """Looks at the run that is expected to be closed by now, and at no other time. One thread looks, any may expect."""

    def __init__(
        self,
        store: Store,
        patience_seconds: float = PATIENCE_SECONDS,
        *,
        on_closed: Callable[[Run, Mapping[str, Any]], object] = lambda _run, _record: None,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        """Report a run that was closed here to `on_closed`; `wake` whoever looks if there is to be a look soon."""
        self._store = store
        self._patience_seconds = patience_seconds
        self._on_closed = on_closed
        self._wake = wake
        #: The run to look at and when it ends by the clock of this host, which the clock of Redis must confirm.
        self._expected = ("", math.inf)
        #: The run that was looked at and when to look again; and since when it was seen overdue.
        self._next = self._expected
        self._overdue_since: float | None = None
        self._failed_at = -math.inf
        self._asked = False

    def ask(self) -> None:
        """Look which run is open at the next occasion, if none is known here that has not ended."""
        if math.isinf(self.pause_seconds):
            self._asked = True
            self._wake()

    def expect(self, run_id: str, ends_at: float = -math.inf) -> None:
        """Look at a run from `ends_at` on, monotonic seconds; if that is not known, at the next occasion."""
        known_id, known = self._expected
        if run_id == known_id and (math.isfinite(known) or math.isinf(ends_at)):
            return
        self._expected = run_id, ends_at
        if 0 < ends_at - system_clock.monotonic() < NEAR_SECONDS:
            self._wake()

    def note_outage(self, at: float) -> None:
        """Note that Redis did not answer at a moment, monotonic seconds."""
        self._failed_at = max(self._failed_at, at)

    @property
    def pause_seconds(self) -> float:
        """The time until the next look, infinite if none is due."""
        run_id, ends_at = self._expected
        if self._asked:
            return 0.0
        return max(0.0, (self._next[1] if run_id == self._next[0] else ends_at) - system_clock.monotonic())

    def look(self) -> None:
        """Look, if that is due; close the run if it was overdue for long enough. With Redis away it looks again."""
        if self.pause_seconds > 0:
            return
        self._asked, (run_id, _) = False, self._expected
        if run_id != self._next[0]:
            self._overdue_since = None
        try:
            with self._store.guarded():
                self._next = run_id, self._look(run_id)
        except StoreError as error:
            self.note_outage(system_clock.monotonic())
            self._next = run_id, system_clock.monotonic() + AGAIN_SECONDS
            log.debug("Run %s cannot be looked at: %s", run_id, error, extra={"action": "look", "run_id": run_id})

    def _look(self, run_id: str) -> float:
        """Look at a run; return when to look again."""
        run, now_us = self._store.runs.current_at()
        now = system_clock.monotonic()
        if run is None:
            return math.inf
        left_seconds, since = run.left_seconds(now_us), self._overdue_since
        if run.id != run_id:
            self.expect(run.id, now + left_seconds)
            return math.inf
        if left_seconds > 0:
            self._overdue_since = None
            return now + left_seconds
        if since is None or since <= self._failed_at or now > since + self._patience_seconds + LAPSE_SECONDS:
            since = self._overdue_since = now
        if now < (close_at := since + self._patience_seconds):
            return close_at
        failure = REDIS_AWAY if self._failed_at > now + left_seconds else ""
        if record := close_overdue(self._store, run, failure):
            self._on_closed(run, record)
            from rlm.delivery.run_alarms import look_over  # noqa: PLC0415  # few workers ever close a run

            look_over(self._store, record)
        return system_clock.monotonic() + AGAIN_SECONDS
