"""Ticks: when one is due by the clock of Redis, whether there is anything to do, and the run that it opens."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextlib import suppress

from rlm import telemetry
from rlm.core.clock import isoformat, system_clock, timestamp
from rlm.core.endpoint import Limited
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State, Trigger, make_run_id
from rlm.core.window import full_seconds
from rlm.ledger import Store
from rlm.ledger.reading.books import books
from rlm.plan.waits import GAP_SECONDS, Obstacle

#: How far two schedulers may be apart about the clock of Redis, seconds: a tick that one has served is served by no
#: other. Those up to 0.1 went by the clocks of their hosts.
APART_SECONDS = 5.0
#: By how much a multiple of a period may be off, because a number so large is rounded, seconds.
ROUNDING_SECONDS = 0.001

log = logging.getLogger(__name__)


def last_due(now: float, every_seconds: float) -> float:
    """Return the last multiple of `every_seconds` by the clock of Redis: the tick that is due, however late it is."""
    return now // every_seconds * every_seconds


def is_served(last_tick: float | None, due: float, now: float) -> bool:
    """Return whether the tick `due` was served at `last_tick`, the time of the last one served, seconds since 1970.

    That may be a little later than `now`: whoever led then was ahead of this one. If it is much later the clock of
    Redis was set back, and ticks are served anew.
    """
    return last_tick is not None and due <= last_tick <= now + APART_SECONDS


def missed(last_tick: float | None, due: float, every_seconds: float) -> int:
    """Return how many ticks nobody served between the last one noted and the one `due`, seconds since 1970."""
    if last_tick is None:
        return 0
    return max(0, round((due - last_due(last_tick, every_seconds)) / every_seconds) - 1)


def serve_tick(store: Store, token: int, now: float, *, away: bool) -> bool:
    """Open the run of the tick that is due `now`, then note the tick; return whether there is a run.

    A tick that is noted was served, whoever dies in between; after a StoreError it is to be served again. `away`: Redis
    failed recently.
    """
    settings = store.settings
    due, last = last_due(now, settings.run.every_seconds), store.schedule.last_tick()
    if is_served(last, due, now):
        return False  # by whoever held the lease before
    over = now > due + settings.run.window_seconds + ROUNDING_SECONDS
    if skipped := missed(last, due, settings.run.every_seconds) + over:
        ticks = "1 tick was" if skipped == 1 else f"{skipped} ticks were"
        since, then = "the start" if last is None else isoformat(last), "at the next tick" if over else "now"
        told = "%s missed since %s: no scheduler conducted, Redis was away, or a run was open; what waits is taken %s"
        log.warning(told, ticks, since, then, extra={"action": "miss_ticks"})
    if over:  # its run would be over as it opens
        store.schedule.note_tick(now)
        return False
    crash_point("tick.due")
    telemetry.tick_began(settings, due)
    if work := is_anything_to_do(store):
        open_run(store, token, Trigger.SCHEDULE, due, away=away)
    store.schedule.note_tick(now)
    crash_point("tick.noted")
    if not work:  # else whoever finishes the run says that the tick has ended
        telemetry.tick_ended(settings, due, ok=True, seconds=now - due)
    return work


def is_anything_to_do(store: Store) -> bool:
    """Return whether items wait on the audit list or in staging, or events in the ledger."""
    found = books(store)
    return bool(found.events or found.staged or found.unsettled or found.retried)


def why_late(store: Store, started_at: float, late_seconds: float, *, away: bool) -> dict[str, float]:
    """Return what held up a run that counts from `started_at`, as seconds by obstacle; nothing if it is not late.

    That is the run before for as long as it was open, up to its deadline; from then on nobody conducted, or Redis was
    `away`.
    """
    if late_seconds <= GAP_SECONDS:
        return {}
    busy = min(max(0.0, _last_run_until(store) - started_at), late_seconds)
    if late_seconds - busy <= GAP_SECONDS:  # it takes a moment to close a run and to open the next
        return {Obstacle.RUN_BEFORE.value: late_seconds}
    late: dict[str, float] = {Obstacle.REDIS.value if away else Obstacle.CONDUCTOR.value: late_seconds - busy}
    return {Obstacle.RUN_BEFORE.value: busy, **late} if busy else late


def _last_run_until(store: Store) -> float:
    """Return until when the last run was open, at most its deadline; 0 if no record says so."""
    for record in store.runs.recent(1):
        with suppress(ValueError, TypeError, KeyError):  # a record that cannot be read must not keep a run from opening
            return min(timestamp(record[end]) for end in ("finished_at", "deadline"))
    return 0.0


def full_before_opening(store: Store, run: Run, limited: Iterable[Limited]) -> set[str]:
    """Return which windows were full for most of the time from the tick until the run was opened, by name."""
    seconds = sum(run.late.values())
    since_us = run.deadline_us - round(run.window_seconds * 1_000_000)
    until_us = since_us + round(seconds * 1_000_000)
    guard_seconds = store.settings.run.guard_seconds
    full = set()
    for one in limited:
        number = max(rule.amount * (2 + math.ceil(run.window_seconds / rule.seconds)) for rule in one.limit.rules)
        stamps = sorted(store.windows.stamps(one, number))
        if full_seconds(stamps, one.limit, guard_seconds, since_us, until_us) > seconds / 2:
            full.add(one.name)
    return full


def open_run(store: Store, token: int, trigger: Trigger, tick: float, *, away: bool = False) -> str:
    """Open a run that counts from `tick`, seconds since 1970 by Redis; return its id. `away`: Redis failed recently."""
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
        late=why_late(store, tick, store.now() - tick, away=away),
        ever_taken=store.intake.ever_taken(),
    )
    opened = store.runs.open(token, run, store.known_types)
    crash_point("run.opened")
    store.processes.wake("scheduler", "workers")  # whoever stands by closes the run if its conductor does not
    return opened


class RedisClock:
    """Follows the clock of Redis by one of this host that never steps; until it is heard, by the host's wall clock.

    A step of either clock moves no tick for longer than until the next look.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None

    def look(self, store: Store) -> None:
        """Ask Redis for its time. Raises StoreError."""
        asked_at = system_clock.boottime()
        self.hear(asked_at, store.now_us(), system_clock.boottime())

    def hear(self, asked_at: float, redis_us: int, answered_at: float) -> None:
        """Note what Redis said (microseconds) between two moments of `system_clock.boottime`, seconds.

        A slow answer leaves what is known as it is, as far as both can be true.
        """
        least, most = redis_us / 1_000_000 - answered_at, redis_us / 1_000_000 - asked_at
        known = (least + most) / 2 if self._ahead is None else self._ahead
        self._ahead = min(max(known, least), most)

    def now(self) -> float:
        """Return the time of Redis, seconds since 1970."""
        return self.at(system_clock.boottime())

    def at(self, moment: float) -> float:
        """Return the time of Redis at a moment of `system_clock.boottime`."""
        ahead = system_clock.now() - system_clock.boottime() if self._ahead is None else self._ahead
        return moment + ahead
