"""The life of a run: it is opened, drained, planned, looked at once a second while lanes make its calls, and closed.

Lanes pull their calls by themselves (`rlm/delivery/lane.py`). While they do, the conductor forecasts the end, wants
more workers where they help, notes what events wait for, and answers requests. Without it the calls go on, a lane has
the run closed, and a standby goes on with the looks.
"""

from __future__ import annotations

import logging
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from rlm.admin.planning import capacity_of, live_windows, plan_run, room_of, start_seconds, types_in_force
from rlm.core.call import TURNAROUND_SECONDS
from rlm.core.clock import system_clock, timestamp
from rlm.core.documents import RunPlan
from rlm.core.endpoint import EventType, all_limited
from rlm.core.errors import FencedError, StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State, Trigger, Waited, make_run_id
from rlm.core.text import done_after
from rlm.delivery.run_end import REDIS_AWAY, close_run
from rlm.ledger.books import take_snapshot
from rlm.ledger.intake import Drain
from rlm.ledger.processes import Role
from rlm.ledger.runs import write_waits
from rlm.ledger.store import Store
from rlm.ledger.waker import Outage
from rlm.plan import Plan
from rlm.plan.causes import GAP_SECONDS, SLOW_SECONDS, Look, add_look
from rlm.plan.situation import Workload, stuck
from scheduler.forecast import Forecaster
from scheduler.office import Office

#: A run drains so many items before it is planned, which takes a moment, or for so many seconds, if Redis is far away.
FIRST_ITEMS, FIRST_SECONDS = 10_000, 2.0
#: Seconds between two looks. A look may take a third of the time: its cost follows the number of endpoints.
LOOK_SECONDS = 1.0
LOOKING_PART = 3
#: Seconds between two looks while only the last calls, or the actor `record`, are awaited; and how long the actor has.
BUSY_SECONDS = 0.02
ACTOR_SECONDS = 0.3
#: Calls are cut at the deadline; results that their workers write within so many seconds still count.
OVERTIME_SECONDS = 0.25
#: Pause after Redis failed, seconds.
AWAY_SECONDS = 0.2

LONG_AGO = float("-inf")

log = logging.getLogger(__name__)


def open_run(store: Store, token: int, trigger: Trigger, tick: float) -> str:
    """Open a run that counts from `tick`, seconds since 1970 by Redis; return its id.

    Its events wait from then on, or from the end of the run before, if that was still open.
    """
    window_seconds, last_until = store.settings.run.window_seconds, 0.0
    for record in store.runs.recent(1):
        with suppress(ValueError):  # an unreadable record must not prevent a run
            last_until = min(map(timestamp, (record.finished_at, record.deadline)))
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
        waits=Waited(max(tick, last_until)),
    )
    opened = store.runs.open(token, run, store.known_types)
    crash_point("run.opened")
    return opened


class Conductor:
    """Conducts one run. Every write carries the lease's token, so a deposed conductor changes nothing.

    Every method raises FencedError if another conductor took over, StoreError if Redis did not answer: then conduct the
    run again later.
    """

    def __init__(self, office: Office, run: Run) -> None:
        """Conduct `run`, in whatever state another conductor may have left it."""
        self._office = office
        self._store = office.store
        self._run = run
        self._drain = Drain(self._store, office.token, run)
        self._forecaster = Forecaster(office, run, self._drain)
        self._plan: Plan | None = None
        self._waits = run.waits or Waited(run.started_at)
        self._look: Look | None = None
        self._due_at = LONG_AGO  #: when the next look is due; long ago if Redis was away meanwhile
        self._took_seconds = 0.0
        self._away_seconds = run.away_seconds
        self._barred: bool | None = None  #: whether lanes get no call; None if another may have seen to that

    def conduct(self) -> None:
        """Conduct the run to its record."""
        self.drain()
        self.plan()
        self.scale()
        self.await_end()

    @property
    def _begins(self) -> bool:
        """Whether the run has no plan yet."""
        return self._run.state in {State.DRAINING, State.PLANNING} and not self._run.failure

    def drain(self) -> None:
        """Take what waits on the audit list, or the first piece of it: the rest is taken between looks."""
        if not self._begins:
            return
        for name in self._store.known_types:
            if name not in self._store.settings.types:
                failed = self._store.recovery.fail_unknown(self._office.token, self._run.id, name, self._goes_on)
                if failed:
                    told = "%d events of %s, which is no longer configured, became dead letters"
                    extra = {"action": "fail_unknown", "run_id": self._run.id}
                    log.warning(told, failed, name, extra=extra)
        self._drain.work(FIRST_SECONDS, self._goes_on, FIRST_ITEMS)
        crash_point("drain.done")
        self._advance(State.PLANNING)

    def _goes_on(self) -> bool:
        """Keep the lease between chunks of a drain; return whether to continue it."""
        self._office.keep()
        return not self._office.stopping

    def plan(self) -> None:
        """Publish the limits and what lanes must know; plan what is taken and still to take; let lanes begin."""
        if not self._begins:
            return
        store, run, token, expected = self._store, self._run, self._office.token, self._forecaster.expected
        store.publish_limits(token)
        types = types_in_force(store)
        store.rules.publish(token, types, expected)
        crash_point("plan.limits_published")
        begins_in, counts = start_seconds(store), store.ledger.count([kind.name for kind in types])
        asked_at = system_clock.monotonic()
        current, now_us = store.runs.current_at()
        answer_seconds = system_clock.monotonic() - asked_at
        left_seconds = (current or run).left_seconds(now_us)
        untaken = self._drain.untaken(left_seconds)
        windows = live_windows(store, [end for kind in types for end in kind.endpoints])
        workload = Workload(
            {name: count.open + untaken.get(name, 0) for name, count in counts.items()},
            types,
            {name: window.later(begins_in) for name, window in windows.items()},
            expected,
        )
        turnaround = answer_seconds if answer_seconds > SLOW_SECONDS else TURNAROUND_SECONDS
        self._plan = plan = plan_run(
            store.settings,
            workload,
            capacity_of(store.settings, 0, turnaround, room=room_of(store)),
            gone_seconds=run.window_seconds - left_seconds + begins_in,
            window_seconds=run.window_seconds,
        )
        # A lane may close the run before the first look, so what its events wait for is noted here; and that nobody
        # conducted before, if that is worth it.
        look = Look(counts, windows, 1, left_seconds, expected, self._office.lately_away, answer_seconds)
        now, waits = run.moment(now_us), self._waits
        if now - waits.until > LOOK_SECONDS:
            waits = add_look(waits, now, replace(look, lanes=0), types)
        self._waits = add_look(replace(waits, until=now), now, look, types)
        fields: dict[str, str | int] = {
            "plan": _json(msgspec.convert(plan, RunPlan, from_attributes=True)),
            "restarts_before": store.processes.restarts(),
            "waits": _json(self._waits),
        }
        fields |= {"most": 1} if plan.most else {}
        fields |= {} if self._drain.over else {"draining": 1}
        if sharing := [(kind.name, kind.share) for kind in types if kind.share]:
            fields["shares"] = _json(sharing)
        self._advance(State.RUNNING, **fields)
        crash_point("plan.written")
        told = "Run %s is planned: workers %d, %s, left over %d: %s"
        extra = {"action": "plan", "run_id": run.id}
        done = done_after(plan.forecast_seconds)
        log.info(told, run.id, plan.workers, done, plan.expected_leftover, plan.binds, extra=extra)

    def scale(self) -> None:
        """Want as many workers as planned, on all hosts together."""
        if self._plan is not None:
            self._store.runs.want(self._office.token, self._plan.workers)
            crash_point("plan.workers_wanted")

    def await_end(self) -> None:
        """Look at the run until nothing more can be done in it, or it is to end; then close it.

        A scheduler that is told to stop leaves it open: lanes go on, and close it if no other scheduler comes.
        """
        office, outage = self._office, Outage(log, "conduct")
        self._due_at = LONG_AGO if office.lately_away else system_clock.monotonic()
        while office.cancels or not office.stopping:
            try:
                with self._store.guarded():  # whatever stands in Redis is no reason to end
                    if (pause := self._look_once()) is None:
                        return self._close()
            except FencedError:
                raise
            except StoreError as error:
                office.note_outage()
                outage.tell(error, "calls wait meanwhile", run_id=self._run.id)
                self._due_at = LONG_AGO
                if office.stopping:
                    raise
                pause = AWAY_SECONDS
            else:
                if lasted := outage.over():
                    self._away_seconds, self._due_at = self._away_seconds + lasted, LONG_AGO
            office.wait(pause)
        return None

    def _look_once(self) -> float | None:
        """Look once; return in how many seconds to look again, None if the run has been closed, or is to end now."""
        office, store, began = self._office, self._store, system_clock.monotonic()
        office.keep()
        asked_at = system_clock.monotonic()
        current, now_us = store.runs.current_at()
        answer_seconds = system_clock.monotonic() - asked_at
        if current is None or current.id != self._run.id:
            return None
        self._run, left = current, current.left_seconds(now_us)
        if current.state is State.FINISHING:
            return None
        if office.cancels and office.stopping and store.runs.cancel(current.id):
            self._run = current = replace(current, cancelled=True)
        is_away = bool(office.unfit) or began - self._due_at > GAP_SECONDS
        if current.cancelled or current.failure or (left <= 0 and self._look):
            return self._wind_up(left, is_away=is_away)
        if 0 < left < 2 * self._took_seconds:  # Redis is far away; the run is to be closed in time all the same
            self._due_at = system_clock.monotonic() + left
            return left
        if (barred := bool(office.check_fit())) != self._barred:
            fields, gone = ({"barred": "1"}, ()) if barred else ({}, ("barred",))
            store.runs.note(office.token, current.id, gone=gone, **fields)
            self._barred = barred
        can_go_on = self._see(left, answer_seconds, is_away=is_away)
        self._took_seconds = system_clock.monotonic() - began
        if not can_go_on:
            return None
        return self._next_look(left - self._took_seconds)

    def _wind_up(self, left: float, *, is_away: bool) -> float | None:
        """Let no call begin any more; return None once none is under way, or all are cut."""
        run = self._run
        if left <= 0 and is_away and self._look:
            self._waits = add_look(
                self._waits, run.deadline, replace(self._look, away=True), types_in_force(self._store)
            )
            self._run = run = replace(run, failure=run.failure or REDIS_AWAY)
        if run.failure or self._office.hurried:
            return None
        if left <= 0:  # one wait without a question, for Redis may be far away
            system_clock.sleep(max(0.0, left + OVERTIME_SECONDS))
            return None
        self._office.answer_requests(run.id)
        counts = self._store.ledger.count([*self._store.settings.types])
        return BUSY_SECONDS if any(count.inflight for count in counts.values()) else None

    def _see(self, left: float, answer_seconds: float, *, is_away: bool) -> bool:
        """Forecast, note what events wait for, answer requests; return whether more can be done."""
        store, run, token, forecaster = self._store, self._run, self._office.token, self._forecaster
        types, workers = types_in_force(store), store.processes.alive(Role.WORKER)
        self._adopt(types, {worker.revision for worker in workers})
        limited = all_limited(end for kind in types for end in kind.endpoints)
        wanted = store.processes.wanted()
        team = forecaster.team(workers, self._run.revision, max(wanted, store.settings.workers.min))
        snapshot = take_snapshot(store, [kind.name for kind in types], limited, team.ids)
        expected = forecaster.measure(types)
        late = stuck(snapshot.calls, types, expected)
        overdue = sum((call.type, call.endpoint) in late for call in snapshot.calls)
        look = Look(snapshot.counts, snapshot.windows, team.lanes, left, expected, is_away, answer_seconds, overdue)
        self._waits, self._look = add_look(self._waits, run.deadline - left, look, types), look
        forecast, plan = forecaster.look(replace(look, expected={**expected, **late}), snapshot, team, wanted, run)
        fields: dict[str, str | int] = {
            "waits": _json(self._waits),
            "forecast": _json(forecast),
            "workers_peak": max(run.workers_peak, team.usable),
            "away_seconds": f"{self._away_seconds:.3f}",
        }
        gone = () if plan.fits else ("most",)  # *longest queue first* only while everything fits
        store.runs.note(token, run.id, gone=gone, **fields)
        self._run = replace(self._run, workers_peak=max(run.workers_peak, team.usable))
        store.archivist.step()  # of the letters that workers write
        self._office.answer_requests(run.id)
        return not self._drain.over or look.can_send(types) or look.busy > 0

    def _next_look(self, left: float) -> float:
        """Return in how many seconds to look again; if there is more to drain, drain it now instead."""
        pause = max(min(max(LOOK_SECONDS, LOOKING_PART * self._took_seconds), left), BUSY_SECONDS)
        self._due_at = system_clock.monotonic() + pause
        spare = left - self._took_seconds  # a piece may take as long as a look where Redis is far away
        if self._drain.over or spare <= 0:
            return pause
        self._drain.work(min(pause, spare), self._goes_on)
        if self._drain.over:
            self._store.runs.note(self._office.token, self._run.id, gone=("draining",))
        return 0.0

    def _adopt(self, types: tuple[EventType, ...], revisions: set[str]) -> None:
        """Give the run this conductor's configuration if the last worker of the one it began with is gone."""
        store, token, revision = self._store, self._office.token, self._store.settings.revision
        if self._run.revision in {revision, *revisions}:
            return
        store.publish_limits(token)  # first, so that its budgets count earlier calls
        store.rules.publish(token, types, self._forecaster.expected)
        store.runs.note(token, self._run.id, revision=revision)
        store.processes.wake("workers")
        self._run = replace(self._run, revision=revision)
        told = "Run %s began with another configuration, of which no worker is left; it continues with this one"
        log.info(told, self._run.id, extra={"action": "adopt_run", "run_id": self._run.id})

    def _close(self) -> None:
        """End and close the run, unless a lane has, or had it ended: then its actor closes it, if it lives."""
        store, run = self._store, self._run
        if run.state is State.FINISHING:
            until = system_clock.monotonic() + ACTOR_SECONDS
            while system_clock.monotonic() < until and store.runs.is_open(run.id):
                self._office.wait(BUSY_SECONDS)
            close_run(store, run.id, keep=self._office.keep)
            return
        crash_point("finish.due")
        counts = store.ledger.count([*store.settings.types])
        is_lacking = any("workers" in seconds for seconds in self._waits.by_type.values())
        has_come = run.workers_peak or run.first_release_at is not None  # it may die between two looks
        if is_lacking and not has_come and not run.cancelled and any(count.unsettled for count in counts.values()):
            run = replace(run, failure=run.failure or "no worker came up")
        fields = write_waits(self._waits, counts, self._drain.left) | ({"failure": run.failure} if run.failure else {})
        if store.runs.end(run.id, self._office.token, **fields):
            crash_point("finish.marked")
            spent = {name: count.spent for name, count in counts.items()}
            run = replace(run, state=State.FINISHING, waits=self._waits, spent=spent, untaken=self._drain.left)
            close_run(store, run.id, ended=run, keep=self._office.keep)

    def _advance(self, state: State, **fields: str | float) -> None:
        self._office.keep()
        self._store.runs.advance(self._office.token, self._run.id, state, **fields)


def _json(document: object) -> str:
    return msgspec.json.encode(document).decode()
