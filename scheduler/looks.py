"""The looks at a running run: once a second, what remains is forecast, and what its events wait for is noted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from rlm.admin.planning import types_in_force
from rlm.core.clock import system_clock
from rlm.core.endpoint import EventType, all_limited
from rlm.core.run import Run, State, Waited
from rlm.core.text import span
from rlm.core.trail import Counts
from rlm.delivery.run_end import REDIS_AWAY
from rlm.ledger.drain import Drain
from rlm.ledger.processes import Process, Role
from rlm.ledger.reading.books import take_snapshot
from rlm.ledger.runs import write_waits
from rlm.ledger.store import Store
from rlm.plan.causes import GAP_SECONDS, Look, add_look, to_the_end
from scheduler.forecast import MANY_ENDPOINTS, Forecaster
from scheduler.leader import Duty, Leader
from scheduler.redis_watch import RedisWatch
from scheduler.team import TeamWatch

#: Seconds between two looks; with so many endpoints a second more, because the cost of a look follows their number.
LOOK_SECONDS = 1.0
ENDPOINTS_A_SECOND = 1000
#: Seconds between two looks while only the last calls are awaited.
BUSY_SECONDS = 0.02
#: Calls are cut at the deadline; results that their workers write within so many seconds still count.
OVERTIME_SECONDS = 0.25

LONG_AGO = float("-inf")

log = logging.getLogger(__name__)


class Desk(NamedTuple):
    """What a conductor works with."""

    store: Store
    leader: Leader
    duty: Duty
    redis: RedisWatch


class Looking(msgspec.Struct):
    """What the looks at one run know of it.

    `state` is that of the last look, None if the run is closed. `cold_since`: no worker was ready when it was planned
    then, but slots were free. `due_at` is when the next look was due, long ago if Redis was away meanwhile. `barred`:
    lanes get no call; None if another conductor may have seen to that. `still` are the counts, if nothing moved.
    """

    run: Run
    drain: Drain
    forecaster: Forecaster
    team: TeamWatch
    state: State | None
    waits: Waited
    cold_since: float | None = None
    look: Look | None = None
    counts: Mapping[str, Counts] = {}
    due_at: float = LONG_AGO
    took_seconds: float = 0.0
    away_seconds: float = 0.0
    could_send: bool = False
    barred: bool | None = None
    still: Mapping[str, Counts] | None = None

    @classmethod
    def begin(cls, desk: Desk, run: Run, drain: Drain, cold_since: float | None = None) -> Looking:
        """Begin to look at `run`, in whatever state another conductor may have left it."""
        store, run = desk.store, desk.store.runs.current() or run
        forecaster = Forecaster(store, desk.leader.token, run, types_in_force(store), drain)
        return cls(
            run=run,
            drain=drain,
            forecaster=forecaster,
            team=TeamWatch(store, run.id, desk.duty),
            state=run.state,
            waits=run.waits or Waited(run.started_at),
            cold_since=cold_since,
            due_at=LONG_AGO if desk.duty.lately_away else system_clock.monotonic(),
            away_seconds=run.away_seconds,
        )


def look_at(desk: Desk, seen: Looking) -> float | None:
    """Look once; return in how many seconds to look again, None if the run has been ended, or is to end now."""
    store, began = desk.store, system_clock.monotonic()
    desk.leader.keep()
    asked_at = system_clock.monotonic()
    current, now_us = store.runs.current_at()
    answer_seconds = system_clock.monotonic() - asked_at
    seen.state = current.state if current is not None and current.id == seen.run.id else None
    if current is None or seen.state in {None, State.FINISHING}:
        return None
    seen.run, left = current, current.left_seconds(now_us)
    away = bool(desk.redis.unfit) or began - seen.due_at > GAP_SECONDS
    if left <= 0 or current.cancelled or current.failure or desk.duty.stopping:
        return _wind_up(desk, seen, left, away=away)
    if left < 2 * seen.took_seconds:  # seconds, if Redis is far away; the run is to be closed in time all the same
        seen.due_at = system_clock.monotonic() + left
        return max(left, BUSY_SECONDS)
    desk.redis.check()
    _bar(desk, seen, barred=bool(desk.redis.unfit))
    is_over = _look(desk, seen, left, answer_seconds, away=away)
    seen.took_seconds = system_clock.monotonic() - began
    return None if is_over else _next_look(desk, seen, left - seen.took_seconds)


def _bar(desk: Desk, seen: Looking, *, barred: bool) -> None:
    """Let lanes get no call while Redis would lose what they write, or if this process is stopping."""
    if barred != seen.barred:
        fields, gone = ({"barred": "1"}, ()) if barred else ({}, ("barred",))
        desk.store.runs.note(desk.leader.token, seen.run.id, gone=gone, **fields)
        seen.barred = barred


def _wind_up(desk: Desk, seen: Looking, left: float, *, away: bool) -> float | None:
    """Let no call begin any more; return None once none is under way, or all are cut."""
    run, types = seen.run, seen.forecaster.types
    if desk.duty.stopping:
        desk.duty.hand_over(run)
        if desk.duty.cancels:
            desk.store.runs.cancel(run.id)
        else:
            _bar(desk, seen, barred=True)
    if left > 0:
        desk.duty.serve(run)
    elif away and seen.look:
        seen.waits = add_look(seen.waits, run.deadline, replace(seen.look, away=True), types)
        run = seen.run = replace(run, failure=run.failure or REDIS_AWAY)
        seen.look = None
    seen.counts = desk.store.ledger.count([kind.name for kind in types])
    is_over = left < -OVERTIME_SECONDS or desk.duty.hurried or bool(run.failure)
    return BUSY_SECONDS if not is_over and any(count.inflight for count in seen.counts.values()) else None


def _look(desk: Desk, seen: Looking, left: float, answer_seconds: float, *, away: bool) -> bool:
    """Forecast, note what events wait for, answer requests; return whether nothing more can be done."""
    store, types, workers = desk.store, types_in_force(desk.store), desk.store.processes.alive(Role.WORKER)
    limited = all_limited(end for kind in types for end in kind.endpoints)
    _adopt(desk, seen, types, workers)
    run, wanted = seen.run, store.processes.wanted()
    team = seen.team.look(workers, run.revision, max(wanted, store.settings.workers.min))
    aged = limited if len(limited) <= MANY_ENDPOINTS else ()
    snapshot = take_snapshot(store, [kind.name for kind in types], aged, team.ids)
    _, windows = store.windows.look(limited)
    seen.forecaster.measure(types)
    now, first_at, expected = run.deadline - left, run.first_release_at, seen.forecaster.measuring.expected
    if first_at is not None and seen.cold_since is not None:
        store.processes.note_coming_up(max(0.0, first_at - seen.cold_since))
        seen.cold_since = None
    look = seen.look = Look(snapshot.counts, windows, team.lanes, left, expected, away, answer_seconds)
    seen.counts, seen.waits = snapshot.counts, add_look(seen.waits, now, look, types)
    fields: dict[str, str | float] = {"waits": _json(to_the_end(seen.waits, look, types))}
    gone: tuple[str, ...] = ()
    if planned := seen.forecaster.look(look, snapshot, team, wanted, first_at):
        forecast, plan = planned
        fields["forecast"] = _json(forecast)
        gone = () if plan.fits else ("most",)  # *longest queue first* only while everything fits
    if seen.team.most > run.workers_peak:
        fields["workers_peak"] = seen.team.most
    if seen.away_seconds:
        fields["away_seconds"] = f"{seen.away_seconds:.3f}"
    store.runs.note(desk.leader.token, run.id, gone=gone, **fields)
    _help(desk, seen, look, wanted)
    store.archivist.step()  # of the letters that workers write
    desk.duty.serve(run)
    can_send = look.can_send(types)
    seen.could_send = seen.could_send or can_send
    return seen.drain.over and not can_send and not look.busy


def _json(document: msgspec.Struct) -> str:
    return msgspec.json.encode(document).decode()


def _help(desk: Desk, seen: Looking, look: Look, wanted: int) -> None:
    """Want one worker more if nothing has moved since the last look although it could: those there are frozen."""
    still = look.counts if look.stands_still(seen.forecaster.types) and not seen.barred else None
    if still is not None and still == seen.still and wanted < desk.store.settings.workers.max:
        desk.store.runs.want(desk.leader.token, wanted + 1)
        extra = {"action": "scale", "run_id": seen.run.id}
        log.warning("Idle lanes take no calls of run %s: one worker more is wanted", seen.run.id, extra=extra)
    seen.still = still


def _next_look(desk: Desk, seen: Looking, left: float) -> float:
    """Return in how many seconds to look again; if there is more to drain, drain it now instead."""
    endpoints = sum(len(kind.endpoints) for kind in seen.forecaster.types)
    pause = max(min(LOOK_SECONDS + endpoints / ENDPOINTS_A_SECOND, left), BUSY_SECONDS)
    seen.due_at = system_clock.monotonic() + pause
    if seen.drain.over:
        return pause
    seen.drain.work(pause, lambda: not desk.duty.stopping)
    if seen.drain.over:
        desk.store.runs.note(desk.leader.token, seen.run.id, gone=("draining",))
        seen.forecaster.plan_soon()
    return 0.0


def account(desk: Desk, seen: Looking) -> dict[str, str]:
    """Return the fields of the run that say how it ended, and why events are left over."""
    run, duty = seen.run, desk.duty
    waits = to_the_end(seen.waits, seen.look, seen.forecaster.types) if seen.look else seen.waits
    fields, now_us = write_waits(waits, seen.counts, seen.drain.left), round(desk.store.clock.now() * 1_000_000)
    came_up = seen.team.came_up or run.first_release_at is not None  # it may die between two looks
    lacked = seen.could_send and not came_up and not run.cancelled and not duty.stopping
    if run.failure:
        fields["failure"] = run.failure
    elif lacked and any(count.unsettled for count in seen.counts.values()):
        fields["failure"] = "no worker came up"
    elif duty.stopping and not duty.cancels and (left := run.left_seconds(now_us)) > 0:
        fields["stopped"] = f"the scheduler was told to stop {span(left)} before the deadline"
    return fields


def _adopt(desk: Desk, seen: Looking, types: Sequence[EventType], workers: Sequence[Process]) -> None:
    """Give the run this conductor's configuration if the last worker of the one it began with is gone."""
    store, run, revision = desk.store, seen.run, desk.store.settings.revision
    if run.revision == revision or any(each.revision == run.revision for each in workers):
        return
    store.publish_limits(desk.leader.token)  # first, so that its budgets count earlier calls
    store.rules.publish(desk.leader.token, types, seen.forecaster.measuring.expected)
    store.runs.note(desk.leader.token, run.id, revision=revision)
    store.processes.wake("workers")
    seen.run = replace(run, revision=revision)
    told = "Run %s began with another configuration, of which no worker is left; it continues with this one"
    log.info(told, run.id, extra={"action": "adopt_run", "run_id": run.id})
