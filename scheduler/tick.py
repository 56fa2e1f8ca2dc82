"""A tick: when the next one is due, whether there is anything to do, and the run that it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.clock import system_clock
from rlm.crash import crash_point
from rlm.run import Run, State, Trigger, make_run_id

if TYPE_CHECKING:
    from rlm.store import Store


#: How far the clocks of two schedulers' hosts may be apart, seconds: a tick that one has served is served by no other.
APART_SECONDS = 5.0


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


def open_run(store: Store, token: int, trigger: Trigger, started_at: float) -> str:
    """Open a run that counts from `started_at` (seconds since 1970); return the id of the run that is open now.

    Raises FencedError for a `token` that is not the lease's.
    """
    window_seconds = store.settings.run.window_seconds
    deadline = started_at + window_seconds
    now_us, _ = store.windows.look(())
    run = Run(
        id=make_run_id(started_at),
        state=State.DRAINING,
        trigger=trigger,
        started_at=started_at,
        deadline=deadline,
        deadline_us=now_us + round((deadline - system_clock.now()) * 1_000_000),
        window_seconds=window_seconds,
        revision=store.settings.revision,
    )
    opened = store.runs.open(token, run, store.known_types)
    crash_point("run.opened")
    return opened
