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
from rlm.core.run import Run, State
from rlm.core.text import span
from rlm.core.trail import Counts
from rlm.delivery.run_end import REDIS_AWAY
from rlm.ledger import Store
from rlm.ledger.drain import Drain
from rlm.ledger.processes import Process, Role
from rlm.ledger.reading.books import pulse, take_snapshot
from rlm.ledger.runs import write_waits
from rlm.plan.situation import MANY_ENDPOINTS
from rlm.plan.waits import GAP_SECONDS, Look, Waits
from scheduler.forecast import Forecaster
from scheduler.leader import Duty, Leader
from scheduler.redis_watch import RedisWatch
from scheduler.team import TeamWatch

#: Seconds between two looks; with so many endpoints a second more, because the cost of a look follows their number.
LOOK_SECONDS = 1.0
ENDPOINTS_A_SECOND = 1000
#: Windows and workers are not read again so soon, seconds, while no call begins or ends and nothing is ordered: while
#: lanes only wait for slots, that would be most of what Redis does.
QUIET_SECONDS = 5.0
#: Seconds between two looks while only the last calls are awaited.
BUSY_SECONDS = 0.02
#: Calls are cut at the deadline; results that their workers write within so many seconds still count.
OVERTIME_SECONDS = 0.25

log = logging.getLogger(__name__)


class Desk(NamedTuple):
    """What a conductor works with."""

    store: Store
    leader: Leader
    duty: Duty
    redis: RedisWatch


class Looks:
    """Looks at one running run, and drains what is left of its `drain` in between."""

    def __init__(self, desk: Desk, run: Run, drain: Drain, *, cold_since: float | None = None) -> None:
        """Look at `run`; no worker was ready when it was planned, at `cold_since`, but slots were free."""
        self._store, self._leader, self._duty, self._redis = desk
        self._run = self._store.runs.current() or run
        self._drain = drain
        self._limits = self._store.limits()
        self._types: Sequence[EventType] = types_in_force(self._store)
        self._watch = TeamWatch(self._store, run.id, self._duty)
        self._forecaster = Forecaster(self._store, self._leader, self._run, self._types, drain)
        self._waits = Waits.read(self._run.waits, run.opened_at)
        self._noted = self._waits  #: as they are if the run ends now
        self._look: Look | None = None
        self._counts: Mapping[str, Counts] = {}
        self._left = 0.0
        self._took_seconds = 0.0
        self._pulse: object = None
        self._quiet_until = float("-inf")
        self._due_at = system_clock.monotonic()
        self._cold_since = cold_since
        self._away_seconds = run.away_seconds
        self._interrupted = self._duty.lately_away  # the run may have stood still before it was taken over
        self._could_send = self._lost_redis = self._refuses = False
        self._is_barred: bool | None = None  #: whether lanes get no call; None: another conductor may have seen to that
        self._still: Mapping[str, Counts] | None = None  #: the counts, if nothing moved at the last look
        self._most: bool | None = None  #: whether the longest queue goes first; None: as it was planned
        self.state: State | None = self._run.state  #: of the run at the last look; None: it is closed

    def note_outage(self, seconds: float = 0.0) -> None:
        """Note that Redis did not answer, or answers again after so many seconds."""
        self._interrupted = True
        self._away_seconds += seconds

    def turn(self) -> float | None:
        """Look once; return in how many seconds to look again, None if the run has been ended, or is to end now."""
        began = system_clock.monotonic()
        self._leader.keep()
        self._redis.check()
        asked_at = system_clock.monotonic()
        current, now_us = self._store.runs.current_at()
        answer_seconds = system_clock.monotonic() - asked_at
        self.state = current.state if current is not None and current.id == self._run.id else None
        if current is None or self.state in {None, State.FINISHING}:
            return None
        self._run, left = current, current.left_seconds(now_us)
        self._bar()
        away = self._interrupted or bool(self._redis.unfit) or began - self._due_at > GAP_SECONDS
        if left <= 0 or current.cancelled or current.failure or self._duty.stopping:
            return self._wind_up(current, left, away=away)
        if left < self._took_seconds:  # seconds, if Redis is far away
            return max(left, BUSY_SECONDS)
        self._interrupted = False
        if self._is_quiet(left, away=away):
            return self._next_look(left)
        is_over = self._look_at(current, left, answer_seconds, away=away)
        self._took_seconds = system_clock.monotonic() - began
        return None if is_over else self._next_look(left - self._took_seconds)

    def _bar(self) -> None:
        """Let lanes get no call while Redis would lose what they write, or if this process is stopping."""
        if (barred := bool(self._redis.unfit) or self._refuses) != self._is_barred:
            fields, gone = ({"barred": "1"}, ()) if barred else ({}, ("barred",))
            self._store.runs.note(self._leader.token, self._run.id, gone=gone, **fields)
            self._is_barred = barred

    def _is_quiet(self, left: float, *, away: bool) -> bool:
        """Return whether nothing has happened since a recent look, so that events wait for the same."""
        now, before, self._pulse = system_clock.monotonic(), self._pulse, pulse(self._store)
        look = self._look and replace(self._look, remaining_seconds=left, away=away)
        is_same = look is not None and before == self._pulse and now < self._quiet_until and not away
        moves = look is None or not look.lanes or not look.can_send(self._types) or look.stands_still(self._types)
        if look is None or not is_same or moves:
            self._quiet_until = now + QUIET_SECONDS
            return False
        self._waits.look(self._run.deadline - left, look, self._types)
        self._noted = self._waits.at_end(look, self._types)
        self._duty.serve(self._run)
        return True

    def _wind_up(self, run: Run, left: float, *, away: bool) -> float | None:
        """Let no call begin any more; return None once none is under way, or all are cut."""
        if self._duty.stopping:
            self._duty.hand_over(run)
            if self._duty.cancels:
                self._store.runs.cancel(run.id)
            else:
                self._refuses = True
                self._bar()
        if left <= 0 and away and self._look:
            self._lost_redis = True
            self._waits.look(run.deadline, replace(self._look, away=True), self._types)
            self._noted, self._interrupted = self._waits, False
        if left > 0:
            self._duty.serve(run)
        self._left, self._counts = left, self._store.ledger.count([kind.name for kind in self._types])
        is_over = left < -OVERTIME_SECONDS or self._duty.hurried or bool(run.failure)
        return BUSY_SECONDS if not is_over and any(count.inflight for count in self._counts.values()) else None

    def _look_at(self, run: Run, left: float, answer_seconds: float, *, away: bool) -> bool:
        """Forecast, note what events wait for, answer requests; return whether nothing more can be done."""
        store, limited = self._store, all_limited(end for kind in self._types for end in kind.endpoints)
        self._take_up_limits()
        workers = store.processes.alive(Role.WORKER)
        self._adopt(workers)
        wanted = store.processes.wanted()
        team = self._watch.look(workers, self._run.revision, max(wanted, store.settings.workers.min))
        aged = limited if len(limited) <= MANY_ENDPOINTS else ()
        snapshot = take_snapshot(store, [kind.name for kind in self._types], aged, team.ids)
        _, windows = store.windows.look(limited)
        self._left, self._counts = left, snapshot.counts
        self._forecaster.measure()
        now, first_at = run.deadline - left, run.first_release_at
        if first_at is not None and self._cold_since is not None:
            store.processes.note_coming_up(max(0.0, first_at - self._cold_since))
            self._cold_since = None
        fields: dict[str, str | float] = {}
        look = self._look = Look(
            snapshot.counts,
            windows,
            team.lanes,
            left,
            self._forecaster.measuring.expected,
            lack=team.lack,
            begun=first_at is not None,
            away=away,
            answer_seconds=answer_seconds,
        )
        self._waits.look(now, look, self._types)
        self._noted = self._waits.at_end(look, self._types)
        if forecast := self._forecaster.look(look, snapshot, team, wanted, first_at):
            fields["forecast"] = msgspec.json.encode(forecast).decode()
        if self._watch.most > run.workers_peak:
            fields["workers_peak"] = self._watch.most
        self._note(fields)
        self._help(look, wanted)
        store.archivist.step(self._leader.token)  # of the letters that workers write
        self._duty.serve(run)
        can_send = look.can_send(self._types)
        self._could_send = self._could_send or can_send
        return self._drain.over and not can_send and not look.busy

    def _help(self, look: Look, wanted: int) -> None:
        """Want one worker more if nothing has moved since the last look although it could: those there are frozen."""
        still = look.counts if look.stands_still(self._types) and not self._is_barred else None
        if still is not None and still == self._still and wanted < self._store.settings.workers.max:
            self._store.processes.want(self._leader.token, wanted + 1)
            extra = {"action": "scale", "run_id": self._run.id}
            log.warning("Idle lanes take no calls of run %s: one worker more is wanted", self._run.id, extra=extra)
        self._still = still

    def _note(self, fields: dict[str, str | float]) -> None:
        """Note what is known of the run, and that the longest queue goes first no longer if that does not help."""
        fields["waits"] = msgspec.json.encode(self._noted.as_json()).decode()
        if self._away_seconds:
            fields["away_seconds"] = f"{self._away_seconds:.3f}"
        drops = self._most is not False and self._forecaster.drops_order
        self._most = False if drops else self._most
        self._store.runs.note(self._leader.token, self._run.id, gone=("most",) if drops else (), **fields)

    def _next_look(self, left: float) -> float:
        """Return in how many seconds to look again; if there is more to drain, drain it now instead."""
        endpoints = sum(len(kind.endpoints) for kind in self._types)
        pause = max(min(LOOK_SECONDS + endpoints / ENDPOINTS_A_SECOND, left), BUSY_SECONDS)
        self._due_at = system_clock.monotonic() + pause
        if self._drain.over:
            return pause
        self._drain.work(pause, lambda: not self._duty.stopping)
        if self._drain.over:
            self._store.runs.note(self._leader.token, self._run.id, gone=("draining",))
            self._forecaster.plan_soon()
        return 0.0

    def account(self) -> dict[str, str]:
        """Return the fields of the run that say how it ended, and why events are left over."""
        fields = write_waits(self._noted.as_json(), self._counts, self._drain.left)
        came_up = self._watch.came_up or (self._look is not None and self._look.begun)  # it may die between two looks
        lacked = self._could_send and not came_up and not self._run.cancelled and not self._duty.stopping
        if self._run.failure:
            fields["failure"] = self._run.failure
        elif self._lost_redis:
            fields["failure"] = REDIS_AWAY
        elif lacked and any(count.unsettled for count in self._counts.values()):
            fields["failure"] = "no worker came up"
        elif self._duty.stopping and not self._duty.cancels and self._left > 0:
            fields["stopped"] = f"the scheduler was told to stop {span(self._left)} before the deadline"
        return fields

    def _adopt(self, workers: Sequence[Process]) -> None:
        """Give the run this conductor's configuration if the last worker of the one it began with is gone."""
        store, run, revision = self._store, self._run, self._store.settings.revision
        if run.revision == revision or any(each.revision == run.revision for each in workers):
            return
        store.publish_limits(self._leader.token)  # first, so that its budgets count earlier calls
        store.rules.publish(self._leader.token, self._types, self._forecaster.measuring.expected)
        store.runs.note(self._leader.token, run.id, revision=revision)
        store.processes.wake("workers")
        self._run = replace(run, revision=revision)
        told = "Run %s began with another configuration, of which no worker is left; it continues with this one"
        log.info(told, run.id, extra={"action": "adopt_run", "run_id": run.id})

    def _take_up_limits(self) -> None:
        """Follow a limit that was changed by hand."""
        limits = self._store.limits()
        if limits == self._limits:
            return
        changed = sorted(name for name, limit in limits.items() if limit != self._limits.get(name))
        self._limits = limits
        self._types = types_in_force(self._store)
        self._forecaster.follow(self._types)
        if changed:
            told = "Limits were changed: %s; what remains is planned by them"
            extra = {"action": "take_up_limits", "run_id": self._run.id}
            log.info(told, ", ".join(f"{name} {limits[name]}" for name in changed), extra=extra)
