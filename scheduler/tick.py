"""A tick: when the next one is due, whether there is anything to do, and the run that it opens."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State, Trigger, make_run_id
from rlm.plan.waits import GAP_SECONDS, Obstacle

if TYPE_CHECKING:
    from rlm.ledger import Store


#: How far the clocks of two schedulers' hosts may be apart, seconds: a tick that one has served is served by no other.
APART_SECONDS = 5.0
#: Up to here the clocks of Redis and of this host say the same, seconds: a run then starts when its tick says.
AGREE_SECONDS = 1.0


def last_due(now: float, every_seconds: float) -> float:
    """Return the last multiple of `every_seconds` on the wall clock, seconds since 1970: a late tick is that one's."""
    return now // every_seconds * every_seconds


def is_served(last_tick: float | None, due: float, now: float) -> bool:
    """Tell whether the tick `due` was served at `last_tick`, when one last was (both seconds since 1970).

    That may be a little later than `now`: the clock of who conducted then was ahead of this one. Where it is much later
    this clock was set back, and ticks are served anew.
    """
    return last_tick is not None and due <= last_tick <= now + APART_SECONDS


def missed(last_tick: float | None, due: float, every_seconds: float) -> int:
    """Count the ticks between the last one noted and the one `due` (both seconds since 1970): nobody served them."""
    if last_tick is None:
        return 0
    return max(0, round((due - last_due(last_tick, every_seconds)) / every_seconds) - 1)


def is_anything_to_do(store: Store) -> bool:
    """Tell whether items wait on the audit list or in staging, or events in the ledger."""
    if store.intake.waiting():
        return True
    types = store.known_types
    return any(count.unsettled for count in store.ledger.count(types).values()) or any(
        store.ledger.count_retried(types).values()
    )


def why_late(store: Store, started_at: float, late_seconds: float, *, away: bool) -> dict[str, float]:
    """Return what held up a run that counts from `started_at`, as seconds by obstacle; nothing where it is not late.

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
    """Return until when the last run was open, at most its deadline; 0 where no record says so."""
    for record in store.runs.recent(1):
        with suppress(ValueError, TypeError, KeyError):  # a record that cannot be read must not keep a run from opening
            return min(datetime.fromisoformat(record[end]).timestamp() for end in ("finished_at", "deadline"))
    return 0.0


def open_run(store: Store, token: int, trigger: Trigger, tick: float, *, away: bool = False) -> str:
    """Open a run that counts from `tick` (seconds since 1970, by this host's clock); return the id of the open run.

    In its record times are by the clock of Redis. Where both clocks agree to `AGREE_SECONDS` the tick's time stands.
    `away`: Redis has failed a moment ago.

    Raises FencedError for a `token` that is not the lease's.
    """
    window_seconds = store.settings.run.window_seconds
    now, now_us = system_clock.now(), store.now_us()
    ahead_seconds = now_us / 1_000_000 - now
    started_at = tick if abs(ahead_seconds) <= AGREE_SECONDS else tick + ahead_seconds
    run = Run(
        id=make_run_id(started_at),
        state=State.DRAINING,
        trigger=trigger,
        started_at=started_at,
        deadline=started_at + window_seconds,
        deadline_us=now_us + round((tick + window_seconds - now) * 1_000_000),
        window_seconds=window_seconds,
        revision=store.settings.revision,
        tick=tick,
        late=why_late(store, started_at, now - tick, away=away),
        ever_taken=store.intake.ever_taken(),
    )
    opened = store.runs.open(token, run, store.known_types)
    crash_point("run.opened")
    return opened
