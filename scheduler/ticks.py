"""Ticks: when one is due by the clock of Redis, whether there is work, and the run that it opens."""

from __future__ import annotations

import logging
from contextlib import suppress

from rlm import telemetry
from rlm.core.clock import isoformat, timestamp
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State, Trigger, Waited, make_run_id
from rlm.ledger.reading.books import books
from rlm.ledger.store import Store

#: How far two schedulers may disagree about the clock of Redis, seconds: no tick is served twice.
CLOCKS_SECONDS = 5.0
#: The rounding error of a multiple of a period, since the number is large, seconds.
ROUNDING_SECONDS = 0.001

log = logging.getLogger(__name__)


def last_due(now: float, every_seconds: float) -> float:
    """Return the last multiple of `every_seconds` by the clock of Redis: the due tick, however late it is."""
    return now // every_seconds * every_seconds


def is_served(last_tick: float | None, due: float, now: float) -> bool:
    """Return whether the tick `due` was served; `last_tick` is the last one served, all in seconds since 1970.

    It may be slightly later than `now` if an earlier leader was ahead of this one. If it is much later, the clock of
    Redis was set back, and ticks are served again.
    """
    return last_tick is not None and due <= last_tick <= now + CLOCKS_SECONDS


def serve_tick(store: Store, token: int, now: float) -> bool:
    """Open the run of the tick that is due `now`, then note the tick; return whether there is a run.

    A noted tick was served, whichever process dies in between; after a StoreError serve it again.
    """
    every, window = store.settings.run.every_seconds, store.settings.run.window_seconds
    due, last = last_due(now, every), store.schedule.last_tick()
    if is_served(last, due, now):
        return False  # by the previous holder of the lease
    is_over = now > due + window + ROUNDING_SECONDS  # its run would be over when it opens
    if is_over or (last is not None and due - last_due(last, every) > 1.5 * every):
        told = "Ticks were missed since %s: no scheduler conducted, Redis was away, or a run was open"
        since = "the start" if last is None else isoformat(last)
        log.warning(told, since, extra={"action": "miss_ticks"})
    if is_over:
        store.schedule.note_tick(now)
        return False
    crash_point("tick.due")
    telemetry.tick_began(store.settings, due)
    if work := is_anything_to_do(store):
        open_run(store, token, Trigger.SCHEDULE, due)
    store.schedule.note_tick(now)
    crash_point("tick.noted")
    if not work:  # otherwise the end of the tick is reported with the run's end
        telemetry.tick_ended(store.settings, due, ok=True, seconds=now - due)
    return work


def is_anything_to_do(store: Store) -> bool:
    """Return whether items wait on the audit list or in staging, or events in the ledger."""
    found = books(store)
    return bool(found.events or found.staged or found.unsettled)


def open_run(store: Store, token: int, trigger: Trigger, tick: float) -> str:
    """Open a run that counts from `tick`, seconds since 1970 by Redis; return its id.

    Its events wait from then on, or from the end of the run before, if that was still open.
    """
    window_seconds = store.settings.run.window_seconds
    run = Run(
        id=make_run_id(tick),
        state=State.DRAINING,
        trigger=trigger,
        started_at=tick,
        deadline=tick + window_seconds,
        deadline_us=round((tick + window_seconds) * 1_000_000),
        window_seconds=window_seconds,
        revision=store.settings.revision,
        tick=tick,
        waits=Waited(max(tick, _last_run_until(store))),
    )
    opened = store.runs.open(token, run, store.known_types)
    crash_point("run.opened")
    return opened


def _last_run_until(store: Store) -> float:
    """Return until when the last run was open, at most its deadline; 0 without a readable record."""
    for record in store.runs.recent(1):
        with suppress(ValueError):  # an unreadable record must not prevent a run
            return min(map(timestamp, (record.finished_at, record.deadline)))
    return 0.0
